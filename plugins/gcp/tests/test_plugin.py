"""The plugin as core finds it: what it registers, with which settings, and what that costs."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import attrs
import pytest

from cloud_tasks.plugin import setting_info
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings


@pytest.fixture
def registry() -> Registry:
    return Registry(only=["gcp"])


def test_the_installed_distribution_registers_its_three_backends(registry: Registry) -> None:
    assert registry.queue("gcp").settings is GcpSettings
    assert registry.compute("gcp").settings is GcpSettings
    assert registry.pricing("gcp").settings is GcpSettings
    assert registry.problems() == ()


def test_asking_for_its_descriptors_imports_no_sdk() -> None:
    program = (
        "import sys; from cloud_tasks.registry import Registry; Registry(only=['gcp']).queue('gcp'); "
        "print([name for name in ('grpc', 'google.auth', 'google.pubsub_v1', 'requests') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_opening_a_queue_needs_no_controllers_sdk() -> None:
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
    "wrong",
    [{"retention_days": 32.0}, {"retention_days": 0.0}, {"max_delivery_attempts": 4}, {"queue_prefix": "google-"}],
)
def test_what_pub_sub_would_refuse_is_refused_before(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        GcpSettings(**wrong)


def test_the_emulators_own_variable_is_understood() -> None:
    assert setting_info(attrs.fields(GcpSettings).pubsub_endpoint).env == "PUBSUB_EMULATOR_HOST"


def test_the_settings_carry_the_flags_that_users_know() -> None:
    flags = {field.name: setting_info(field).flag for field in attrs.fields(GcpSettings) if setting_info(field).flag}
    assert flags == {
        "project_id": "--project-id",
        "credentials_file": "--credentials-file",
        "service_account": "--service-account",
    }


def test_what_must_not_be_shown_is_marked_secret() -> None:
    secret = {field.name for field in attrs.fields(GcpSettings) if setting_info(field).secret}
    assert secret == set()
