"""Imports of commands and workers that do not use Azure's queue."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported(statements: str) -> set[str]:
    """Return the modules that a new interpreter has imported after these statements."""
    program = f"{statements}\nimport sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_plugin_imports_no_sdk() -> None:
    found = imported("import cloud_tasks_azure.plugin, cloud_tasks_azure.settings, cloud_tasks_azure.traits")
    assert {name for name in found if name == "azure" or name.startswith(("azure.", "requests"))} == set()


@pytest.mark.parametrize("unused", ["azure.storage.blob", "azure.servicebus", "azure.mgmt", "adlfs"])
def test_storage_queue_imports_no_unrelated_sdk(unused: str) -> None:
    assert unused not in imported("import cloud_tasks_azure.queue.factory")


def test_service_bus_is_no_part_of_the_default() -> None:
    found = imported("import cloud_tasks_azure.queue.factory, cloud_tasks_azure.doctor_queue")
    assert {name for name in found if "servicebus" in name} == set()
    # Nor is it what a worker with another queue or the registry loads.
    found = imported("import cloud_tasks_azure.plugin, cloud_tasks_azure.servicebus.plugin")
    assert {name for name in found if name == "azure" or name.startswith("azure.")} == set()
