"""`check_traits`: `run` values that a chosen backend does not support are refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud_tasks.config import ConfigurationError, JobConfig, load_config
from cloud_tasks.plugin import ComputeBackend, ComputeTraits, QueueBackend, QueueTraits, Reach, hookimpl
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


MACHINE, FILES, NETWORK = Reach


def plugin(name: str, reach: Reach, **located: Any) -> object:
    """Return a plugin with a queue and a compute backend."""
    limits = {"max_message_bytes": 1, "receive_batch": 1, "send_batch": 1}
    queue = QueueBackend(
        name=name,
        summary="A queue",
        traits=QueueTraits(max_lease=timedelta(minutes=1), reach=reach, **limits),
        open=lambda *_: nullcontext(),
    )
    compute = ComputeBackend(
        name=name,
        summary="Instances",
        traits=ComputeTraits(**located),
        open=lambda *_: nullcontext(),
        open_instance=lambda *_: nullcontext(),
    )

    class Plugin:
        @hookimpl
        def cloud_tasks_register_queue(self) -> list[QueueBackend]:
            return [queue]

        @hookimpl
        def cloud_tasks_register_compute(self) -> list[ComputeBackend]:
            return [compute]

    return Plugin()


@pytest.fixture
def registry() -> Registry:
    """Return plugins of this machine, of a cluster with shared files, and of a cloud."""
    found = Registry(only=())
    found.register("here", plugin("here", MACHINE, shares_files=True))
    found.register("cluster", plugin("cluster", FILES, location=FILES))
    found.register("cloud", plugin("cloud", NETWORK))
    return found


@pytest.mark.parametrize(
    ("queue", "compute", "remedy"),
    [
        ("here", "here", None),
        ("here", "cluster", "use queue: cloud or cluster"),
        ("here", "cloud", "use queue: cloud"),
        ("cluster", "here", None),
        ("cluster", "cluster", None),
        ("cluster", "cloud", "use queue: cloud"),
        ("cloud", "here", None),
        ("cloud", "cluster", None),
        ("cloud", "cloud", None),
    ],
)
def test_check_traits_refuses_a_queue_that_instances_cannot_reach(
    registry: Registry, tmp_path: Path, queue: str, compute: str, remedy: str | None
) -> None:
    file = tmp_path / "config.yml"
    file.write_text(f"compute: {compute}\nqueue: {queue}\n")
    if remedy is None:
        assert load_config(registry, file=file, options={}, environ={}).queue == queue
        return
    with pytest.raises(ConfigurationError) as caught:
        load_config(registry, file=file, options={}, environ={})
    places = {"here": "from the controller's machine only"}
    reach = places.get(queue, "only from machines that share files with the controller's")
    assert str(caught.value) == (
        f'{file}:2: queue: "{queue}" can be used {reach}, and the instances of compute "{compute}" are elsewhere; '
        f"{remedy}"
    )


def test_check_traits_names_the_provider_that_selects_the_queue(registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("provider: here\ncompute: cloud\n")
    with pytest.raises(ConfigurationError, match=r"config\.yml:1: queue: "):
        load_config(registry, file=file, options={}, environ={})
