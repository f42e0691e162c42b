"""Registration, settings and import cost of the plugin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from cloud_tasks.plugin import setting_info
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings


@pytest.fixture
def registry() -> Registry:
    return Registry(only=["gcp"])


def test_plugin_registers_three_backends(registry: Registry) -> None:
    assert registry.queue("gcp").settings is GcpSettings
    assert registry.compute("gcp").settings is GcpSettings
    assert registry.pricing("gcp").settings is GcpSettings
    assert registry.problems() == ()


def test_descriptors_import_no_sdk() -> None:
    program = (
        "import sys; from cloud_tasks.registry import Registry; Registry(only=['gcp']).queue('gcp'); "
        "print([name for name in ('grpc', 'google.auth', 'google.pubsub_v1', 'requests') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_open_queue_needs_no_controller_sdk() -> None:
    program = (
        "import sys; from datetime import timedelta; from cloud_tasks.plugin import QueueContext\n"
        "from cloud_tasks.registry import Registry; from cloud_tasks_gcp.settings import GcpSettings\n"
        "sys.modules['google.cloud.compute_v1'] = None\n"
        "settings = GcpSettings(project_id='p', pubsub_endpoint='127.0.0.1:1')\n"
        "context = QueueContext(job_id='job', name='job', lease=timedelta(minutes=1))\n"
        "with Registry(only=['gcp']).queue('gcp').open(settings, context) as queue: print(type(queue).__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "PubSubQueue"


@pytest.mark.parametrize(
    "invalid",
    [{"retention_days": 32.0}, {"retention_days": 0.0}, {"queue_prefix": "google-"}],
)
def test_settings_refuse_values_invalid_for_pubsub(invalid: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        GcpSettings(**invalid)


def test_settings_read_emulator_variable() -> None:
    assert setting_info(attrs.fields(GcpSettings).pubsub_endpoint).env == "PUBSUB_EMULATOR_HOST"


def test_settings_have_documented_flags() -> None:
    flags = {field.name: setting_info(field).flag for field in attrs.fields(GcpSettings) if setting_info(field).flag}
    assert flags == {
        "project_id": "--project-id",
        "credentials_file": "--credentials-file",
        "service_account": "--service-account",
    }


def test_settings_have_no_secrets() -> None:
    secret = {field.name for field in attrs.fields(GcpSettings) if setting_info(field).secret}
    assert secret == set()


def test_plugin_imports_only_the_promised_packages_of_core() -> None:
    sources = list((Path(__file__).parents[1] / "src").rglob("*.py"))
    imported = {name for file in sources for name in re.findall(r"^\s*from (cloud_tasks\b\S*)", file.read_text(), re.M)}
    promised = {"cloud_tasks.errors", "cloud_tasks.model", "cloud_tasks.plugin", "cloud_tasks.plugin.kit"}
    assert imported - promised == set()
    assert "cloud_tasks.plugin" in imported
