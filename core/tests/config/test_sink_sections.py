"""The sections of event sinks: those of core, and one that is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_tasks.builtin.sink_settings import SqliteSettings, WebhookSettings
from cloud_tasks.config import ConfigurationError, JobConfig, load_config
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import EventSinkBackend, hookimpl
from cloud_tasks.registry import Registry

Read = Callable[..., JobConfig]
ADDRESS = "https://hooks.example.com/services/T0/SECRET"


def test_their_values_arrive(read: Read) -> None:
    config = read(
        "event_sinks: [sqlite, webhook]\nsqlite: {file: e.sqlite}\nwebhook: {budget: [0.9], failure_rate: null}"
    )
    assert config.settings_for("event_sink", "sqlite") == SqliteSettings(file=Path("e.sqlite"))
    assert config.settings_for("event_sink", "webhook") == WebhookSettings(budget=(0.9,), failure_rate=None)


@pytest.mark.parametrize("where", ["file", "environment"])
def test_the_address_of_a_webhook_is_shown_nowhere(read: Read, where: str) -> None:
    text = "event_sinks: [webhook]\n" + (f"webhook: {{url: '{ADDRESS}'}}" if where == "file" else "")
    config = read(text, environ={"CLOUD_TASKS_WEBHOOK_URL": ADDRESS} if where == "environment" else {})
    assert config.settings_for("event_sink", "webhook").url == ADDRESS
    assert "SECRET" not in str(config.as_dict(with_origins=True)) + str(config) + str(config.worker_environment())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("webhook:\n  failure_rate: 20", "config.yml:2: webhook.failure_rate: must be above 0, and at most 1"),
        ("webhook:\n  budget: [0.5, 2]", "config.yml:2: webhook.budget: must be above 0, and at most 1"),
        ("webhook:\n  failure_sample: 0", "config.yml:2: webhook.failure_sample: must be at least 1"),
        ("webhook:\n  template: $nobody", "config.yml:2: webhook.template: there is no $nobody; it may name $message"),
        ("webhook:\n  url: ftp://SECRET", "config.yml:2: webhook.url: "),
        ("sqlite:\n  folder: x", "config.yml:2: sqlite.folder: unknown key"),
    ],
)
def test_what_is_wrong_with_them_is_one_line(read: Read, text: str, line: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text)
    (problem,) = raised.value.problems
    assert problem.startswith(line)
    assert "SECRET" not in problem


def test_a_sink_that_is_not_installed_is_told_by_who_needs_it_with_what_to_install(read: Read) -> None:
    config: Any = read("event_sinks: [otel]\notel: {endpoint: 'http://localhost:4318'}")
    with pytest.raises(InputError, match=r"there is no event sink \"otel\"; install it with: .*'cloud-tasks\[otel\]'"):
        config.settings_for("event_sink", "otel")


def test_it_is_no_provider(read: Read) -> None:
    with pytest.raises(ConfigurationError, match='there is no provider "otel"'):
        read("provider: otel")


_EXPORT = "use sqlite or jsonl, and for Parquet files: cloud-tasks export events --format parquet"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("event_sinks: [parquet]", "config.yml:1: event_sinks"),
        ("event_sinks: parquet\nparquet: {rows_per_file: 7, folder: x}", "config.yml:1: event_sinks"),
        ("run:\n  max_cpu: 8\nparquet:\n  rows_per_file: 7\n  folder: x", "config.yml:4: parquet"),
    ],
)
def test_parquet_event_sink_is_refused_with_one_line_naming_the_export(read: Read, text: str, place: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text)
    assert raised.value.problems == (f'{place}: there is no event sink "parquet"; {_EXPORT}',)


def test_parquet_event_sink_of_a_plugin_is_accepted(tmp_path: Path) -> None:
    backend = EventSinkBackend(name="parquet", summary="Parquet", settings=SqliteSettings, open=lambda *_: None)
    registry = Registry(only=())
    registry.register("mine", SimpleNamespace(cloud_tasks_register_event_sink=hookimpl(lambda: (backend,))))
    file = tmp_path / "config.yml"
    file.write_text("event_sinks: [parquet]\nparquet: {file: x}")
    config = load_config(registry, file=file, options={}, environ={})
    assert config.settings_for("event_sink", "parquet") == SqliteSettings(file=Path("x"))
