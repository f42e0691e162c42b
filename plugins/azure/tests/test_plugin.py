"""Registration and settings of the plugin."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from cloud_tasks.cli.scaffold.project_files import worker_packages
from cloud_tasks.config import ConfigurationError, load_config
from cloud_tasks.plugin import setting_info
from cloud_tasks.registry import Registry
from cloud_tasks_azure.servicebus.settings import ServiceBusSettings
from cloud_tasks_azure.settings import AzureSettings


@pytest.fixture
def registry() -> Registry:
    return Registry(only=["azure"])


def test_plugin_registers_three_backends(registry: Registry) -> None:
    assert registry.queue("azure").settings is AzureSettings
    assert registry.compute("azure").settings is AzureSettings
    assert registry.pricing("azure").settings is AzureSettings
    assert registry.problems() == ()


def test_service_bus_is_a_queue_of_its_own(registry: Registry) -> None:
    assert registry.names("queue") == ("azure",)
    found = Registry(only=["azure-servicebus"])
    assert found.queue("azure-servicebus").settings is ServiceBusSettings
    assert (found.names("queue"), found.names("compute"), found.problems()) == (("azure-servicebus",), (), ())


def test_only_storage_queue_makes_fewer_requests(registry: Registry) -> None:
    # A lock of Service Bus is renewed for the time of its queue, whatever a worker asks for.
    traits = {name: Registry(only=[name]).queue(name).traits for name in ("azure", "azure-servicebus")}
    assert {name: each.bills_requests for name, each in traits.items()} == {"azure": True, "azure-servicebus": False}
    assert {name: each.max_lease for name, each in traits.items()} == {
        "azure": timedelta(days=7),
        "azure-servicebus": timedelta(minutes=5),
    }


def test_service_bus_has_the_account_of_its_section_and_the_application_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("provider: azure\nqueue: azure-servicebus\nazure-servicebus:\n  namespace_name: jobs\n")
    environ = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_SERVICEBUS_CONNECTION_STRING": "Endpoint=sb://x"}
    config = load_config(Registry(), file=file, options={}, environ=environ)
    settings = config.settings_for("queue", "azure-servicebus")
    assert (settings.namespace_name, settings.connection_string) == ("jobs", "Endpoint=sb://x")
    assert (settings.tenant_id, settings.client_id) == ("t", "c")
    exported = config.worker_environment()
    assert exported["CLOUD_TASKS_AZURE_SERVICEBUS_NAMESPACE_NAME"] == "jobs"
    assert not [text for text in exported.values() if "Endpoint=" in text]


@pytest.mark.parametrize(
    ("compute", "packages"),
    [
        ("azure", ["cloud-tasks", "cloud-tasks-azure[azure-servicebus]"]),
        ("local", ["cloud-tasks", "cloud-tasks-local", "cloud-tasks-azure[azure-servicebus]"]),
    ],
)
def test_init_installs_the_sdk_of_service_bus_on_instances(compute: str, packages: list[str]) -> None:
    found = worker_packages(Registry(), {"compute": compute, "queue": "azure-servicebus", "pricing": compute})
    assert list(found) == packages
    plain = worker_packages(Registry(), dict.fromkeys(("compute", "queue", "pricing"), "azure"))
    assert plain == ("cloud-tasks", "cloud-tasks-azure")


def test_former_choice_of_service_bus_is_refused_with_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("provider: azure\nazure:\n  queue: servicebus\n")
    with pytest.raises(ConfigurationError) as refused:
        load_config(Registry(), file=file, options={}, environ={})
    (problem,) = str(refused.value).splitlines()
    assert problem.endswith("config.yml:3: azure.queue: Service Bus is a queue of its own: set queue: azure-servicebus")
    file.write_text("provider: azure\nazure:\n  queue: storage\n")
    assert load_config(Registry(), file=file, options={}, environ={}).queue == "azure"


def test_settings_have_command_line_flags() -> None:
    found = {field.name: setting_info(field).flag for field in attrs.fields(AzureSettings)}
    assert {name: flag for name, flag in found.items() if flag is not None} == {
        "subscription_id": "--subscription-id",
        "tenant_id": "--tenant-id",
        "client_id": "--client-id",
        "client_secret": "--client-secret",
        "connection_string": "--connection-string",
    }


def test_secret_settings_are_marked() -> None:
    for cls in (AzureSettings, ServiceBusSettings):
        secret = {field.name for field in attrs.fields(cls) if setting_info(field).secret}
        assert secret == {"client_secret", "connection_string"}
