"""Registration, settings and imports of the plugin."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import attrs
import pytest

from cloud_tasks.plugin import setting_info
from cloud_tasks.registry import Registry
from cloud_tasks_aws.settings import AwsSettings


@pytest.fixture
def registry() -> Registry:
    return Registry(only=["aws"])


def test_plugin_registers_three_backends(registry: Registry) -> None:
    assert registry.queue("aws").settings is AwsSettings
    assert registry.compute("aws").settings is AwsSettings
    assert registry.pricing("aws").settings is AwsSettings
    assert registry.problems() == ()


def test_registration_imports_no_sdk() -> None:
    program = (
        "import sys; from cloud_tasks.registry import Registry; r = Registry(only=['aws']); "
        "r.queue('aws'), r.compute('aws'), r.pricing('aws'); "
        "print([name for name in ('boto3', 'botocore', 'urllib.request') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_instance_side_imports_no_sdk() -> None:
    program = (
        "import sys; from cloud_tasks.registry import Registry; from cloud_tasks.plugin import InstanceContext; "
        "from cloud_tasks_aws.settings import AwsSettings\n"
        "with Registry(only=['aws']).compute('aws').open_instance(AwsSettings(), InstanceContext(job_id='job')):\n"
        "    print([name for name in ('boto3', 'botocore') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_have_command_line_flags() -> None:
    flags = {field.name: setting_info(field).flag for field in attrs.fields(AwsSettings)}
    assert {name: flag for name, flag in flags.items() if flag} == {
        "access_key": "--access-key",
        "secret_key": "--secret-key",
        "profile": "--aws-profile",
    }


def test_worker_settings_exclude_credentials() -> None:
    sent = {field.name for field in attrs.fields(AwsSettings) if setting_info(field).worker}
    assert sent >= {"endpoint_url", "sqs_endpoint", "s3_endpoint", "queue_prefix", "oversize_location"}
    assert sent.isdisjoint({"access_key", "secret_key", "session_token", "profile", "credentials_file"})


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"oversize_location": "/tmp/folder"}, "oversize_location"),
        ({"oversize_location": "s3://"}, "oversize_location"),
        ({"queue_prefix": "with_underscore"}, "queue_prefix"),
        ({"queue_threads": 0}, "must be positive"),
        ({"tags": {"aws:owner": "x"}}, '"aws:owner" is not valid: AWS sets the tags'),
        ({"tags": {"cloud-tasks-job": "x"}}, '"cloud-tasks-job" is not valid: cloud-tasks sets the tags'),
        ({"tags": {"x": "y" * 257}}, "256"),
        ({"tags": {f"x{number}": "y" for number in range(31)}}, "at most 30"),
        ({"price_max_age_hours": -1}, "must be positive"),
    ],
)
def test_settings_reject_invalid_values(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AwsSettings(**wrong)
