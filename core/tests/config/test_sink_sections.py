"""Event sinks in the configuration: sections, secrets, and sinks that are not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from cloud_tasks import builtin
from cloud_tasks.builtin.sinks.settings import SqliteSettings
from cloud_tasks.config import ConfigurationError, JobConfig, load_config
from cloud_tasks.errors import PluginError
from cloud_tasks.plugin import EventSinkBackend, hookimpl, setting
from cloud_tasks.registry import Registry

Read = Callable[..., JobConfig]


@attrs.frozen(kw_only=True)
class PagerSettings:
    key: str | None = setting(help="Key of the pager", secret=True, default=None)
    levels: tuple[float, ...] = setting(help="Levels", default=(0.5, 1.0))


def read_with_pager(folder: Path, text: str, environ: dict[str, str] | None = None) -> JobConfig:
    backend = EventSinkBackend(name="pager", summary="Pager", settings=PagerSettings, open=lambda *_: None)
    registry = Registry(builtins=[("builtin", builtin)], only=())
    registry.register("mine", SimpleNamespace(cloud_tasks_register_event_sink=hookimpl(lambda: (backend,))))
    file = folder / "config.yml"
    file.write_text(text)
    file.chmod(0o600)
    return load_config(registry, file=file, options={}, environ=environ or {})


def test_sections_of_event_sinks_arrive(tmp_path: Path) -> None:
    config = read_with_pager(tmp_path, "event_sinks: [sqlite, pager]\nsqlite: {file: e.sqlite}\npager: {levels: [0.9]}")
    assert config.settings_for("event_sink", "sqlite") == SqliteSettings(file=tmp_path / "e.sqlite")
    assert config.settings_for("event_sink", "pager") == PagerSettings(levels=(0.9,))


@pytest.mark.parametrize("where", ["file", "environment"])
def test_secret_of_an_event_sink_is_shown_nowhere(tmp_path: Path, where: str) -> None:
    text = "event_sinks: [pager]\n" + ("pager: {key: SECRET}" if where == "file" else "")
    config = read_with_pager(tmp_path, text, {"CLOUD_TASKS_PAGER_KEY": "SECRET"} if where == "environment" else {})
    assert config.settings_for("event_sink", "pager").key == "SECRET"
    assert "SECRET" not in str(config.as_dict(with_origins=True)) + str(config) + str(config.worker_environment())


def test_unknown_key_of_an_event_sink_is_one_line(read: Read) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read("sqlite:\n  folder: x")
    assert [problem.partition(";")[0] for problem in raised.value.problems] == [
        "config.yml:2: sqlite.folder: unknown key"
    ]


@pytest.mark.parametrize(("name", "extra"), [("otel", "otel"), ("webhook", "notify"), ("notify", "notify")])
def test_event_sink_that_is_not_installed_names_the_extra_to_install(read: Read, name: str, extra: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(f"run:\n  max_cpu: 2\nevent_sinks: [jsonl, {name}]\n{name}: {{url: 'slack://SECRET'}}")
    install = f"install it with: pip install 'cloud-tasks[{extra}]'"
    assert raised.value.problems == (f'config.yml:3: event_sinks: plugin "{extra}" is not installed; {install}',)


@pytest.mark.parametrize("name", ["otel", "webhook", "notify"])
def test_section_of_an_event_sink_that_is_not_used_needs_no_plugin(read: Read, name: str) -> None:
    config: Any = read(f"{name}: {{url: 'slack://SECRET'}}")
    assert "SECRET" not in str(config.as_dict())


def test_event_sink_of_a_broken_plugin_is_left_to_the_command(tmp_path: Path) -> None:
    registry = Registry(only=())
    registry.register("notify", SimpleNamespace(cloud_tasks_register_event_sink=hookimpl(lambda: 1 / 0)))
    file = tmp_path / "config.yml"
    file.write_text("event_sinks: [notify]\n")
    config = load_config(registry, file=file, options={}, environ={})
    with pytest.raises(PluginError, match='plugin "notify"'):
        config.settings_for("event_sink", "notify")


def test_event_sink_is_not_a_provider(read: Read) -> None:
    with pytest.raises(ConfigurationError, match='unknown provider "otel"'):
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
    assert raised.value.problems == (f'{place}: unknown event sink "parquet"; {_EXPORT}',)


def test_parquet_event_sink_of_a_plugin_is_accepted(tmp_path: Path) -> None:
    backend = EventSinkBackend(name="parquet", summary="Parquet", settings=SqliteSettings, open=lambda *_: None)
    registry = Registry(only=())
    registry.register("mine", SimpleNamespace(cloud_tasks_register_event_sink=hookimpl(lambda: (backend,))))
    file = tmp_path / "config.yml"
    file.write_text("event_sinks: [parquet]\nparquet: {file: x}")
    config = load_config(registry, file=file, options={}, environ={})
    assert config.settings_for("event_sink", "parquet") == SqliteSettings(file=tmp_path / "x")
