"""Registration and settings of the plugin."""

from __future__ import annotations

import attrs
import pytest

from cloud_tasks.plugin import setting_info
from cloud_tasks.registry import Registry
from cloud_tasks_azure.settings import AzureSettings


@pytest.fixture
def registry() -> Registry:
    return Registry(only=["azure"])


def test_plugin_registers_three_backends(registry: Registry) -> None:
    assert registry.queue("azure").settings is AzureSettings
    assert registry.compute("azure").settings is AzureSettings
    assert registry.pricing("azure").settings is AzureSettings
    assert registry.problems() == ()


def test_settings_have_command_line_flags() -> None:
    found = {field.name: setting_info(field).flag for field in attrs.fields(AzureSettings)}
    assert {name: flag for name, flag in found.items() if flag is not None} == {
        "subscription_id": "--subscription-id",
        "tenant_id": "--tenant-id",
        "client_id": "--client-id",
        "client_secret": "--client-secret",
        "namespace_name": "--namespace-name",
        "connection_string": "--connection-string",
    }


def test_secret_settings_are_marked() -> None:
    secret = {field.name for field in attrs.fields(AzureSettings) if setting_info(field).secret}
    assert secret == {"client_secret", "connection_string", "servicebus_connection_string"}
