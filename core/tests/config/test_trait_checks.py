"""`check_traits`: `run` values that a chosen backend does not support are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud_tasks.config import ConfigurationError, JobConfig, load_config
from cloud_tasks.registry import Registry

Read = Callable[..., JobConfig]

QUEUE = 'run.exactly_once_queue: queue "aws" does not support exactly-once delivery; remove it, or use queue: gcp'
COMPUTE = 'run.use_spot: compute "aws" does not support spot instances; remove it, or use compute: gcp'

REFUSED: list[tuple[str | None, dict[str, Any], str]] = [
    ("provider: aws\nrun:\n  exactly_once_queue: true", {}, f"config.yml:3: {QUEUE}"),
    ("provider: gcp\nqueue: AWS\nrun:\n  exactly_once_queue: true", {}, f"config.yml:4: {QUEUE}"),
    ("provider: aws\naws:\n  exactly_once_queue: true", {}, f"config.yml:3: {QUEUE}"),
    ("provider: aws", {"sets": ["run.exactly_once_queue=true"]}, f"--set: {QUEUE}"),
    (
        "provider: aws",
        {"environ": {"CLOUD_TASKS_RUN_EXACTLY_ONCE_QUEUE": "1"}},
        f"CLOUD_TASKS_RUN_EXACTLY_ONCE_QUEUE: {QUEUE}",
    ),
    ("provider: aws\nrun:\n  use_spot: true", {}, f"config.yml:3: {COMPUTE}"),
    ("provider: gcp\ncompute: aws\nrun:\n  use_spot: true", {}, f"config.yml:4: {COMPUTE}"),
    (None, {"options": {"provider": "aws", "run.use_spot": True}}, f"--use-spot: {COMPUTE}"),
]


@pytest.mark.parametrize(("text", "given", "message"), REFUSED)
def test_unsupported_switch_is_refused(read: Read, text: str | None, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(text, **given)
    assert str(caught.value) == message


def test_unsupported_switches_are_all_reported_at_once(read: Read) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read("provider: aws\nrun:\n  use_spot: true\n  exactly_once_queue: true")
    assert str(caught.value).splitlines() == [f"config.yml:3: {COMPUTE}", f"config.yml:4: {QUEUE}"]


@pytest.mark.parametrize(
    "text",
    [
        "provider: gcp\nrun:\n  use_spot: true\n  exactly_once_queue: true",
        "provider: aws\nrun:\n  use_spot: false\n  exactly_once_queue: false",
        "provider: aws\nqueue: gcp\nrun:\n  exactly_once_queue: true",
        "provider: aws\ncompute: gcp\nrun:\n  use_spot: true",
        "provider: aws\ngcp:\n  use_spot: true",
        "run:\n  use_spot: true\n  exactly_once_queue: true",
    ],
)
def test_supported_or_unused_switch_is_accepted(read: Read, text: str) -> None:
    read(text)


def test_plugin_that_is_not_installed_is_left_to_the_command(tmp_path: Any) -> None:
    file = tmp_path / "config.yml"
    file.write_text("provider: azure\nrun:\n  use_spot: true\n")
    loaded = load_config(Registry(only=()), file=file, options={}, environ={})
    assert loaded.run.use_spot
