"""docs/event_sinks.md agrees with the code."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from cloud_tasks import builtin
from cloud_tasks.builtin.sinks.settings import SqliteSettings
from cloud_tasks.config import load_config
from cloud_tasks.config.values import show
from cloud_tasks.model import EventType
from cloud_tasks.plugin import EventSinkContext, hookimpl
from cloud_tasks.registry import Registry
from cloud_tasks.report.data.export import KINDS
from cloud_tasks.testing.contracts.event_sink import make_event

PAGE = (Path(__file__).parents[4] / "docs" / "event_sinks.md").read_text(encoding="utf-8")
REGISTRY = Registry(builtins=[("builtin", builtin)], only=())
CONTEXT = EventSinkContext(job_id="my-job")


def section(name: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"\n## {name}\n")[2], flags=re.M)[0]


def keys_of(name: str) -> dict[str, str]:
    """The defaults in the table of a sink."""
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section(name), re.M))


def only_block(name: str, language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", section(name), re.S)
    return str(text)


def default(field: attrs.Attribute[Any]) -> str:
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if field.default is None:
        return "none"
    return str(show(field.default)) if isinstance(field.default, tuple) else str(field.default)


def test_page_has_every_setting_with_its_default() -> None:
    settings = REGISTRY.event_sink("sqlite").settings
    assert keys_of("sqlite") == {field.name: default(field) for field in attrs.fields(settings)}


def test_page_names_every_sink() -> None:
    assert set(REGISTRY.names("event_sink")) <= set(re.findall(r"^\| `(\w+)` \| \w", PAGE.partition("## ")[0], re.M))


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
def test_page_configurations_are_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(text)
    registry = Registry(builtins=[("builtin", builtin)], only=())
    for plugin in ("otel", "notify"):
        # Installed but broken, so that its keys are accepted unchecked.
        registry.register(plugin, SimpleNamespace(cloud_tasks_register_event_sink=hookimpl(lambda: 1 / 0)))
    config = load_config(registry, file=file, options={}, environ={})
    known = [name for name in config.event_sinks if name not in ("otel", "webhook")]
    assert [config.settings_for("event_sink", name) is not None for name in known] == [True] * len(known)


def test_page_query_finds_exceptions(tmp_path: Path) -> None:
    with REGISTRY.event_sink("sqlite").open(SqliteSettings(file=tmp_path / "e.sqlite"), CONTEXT) as sink:
        sink.write([attrs.evolve(make_event(1, exception="bad"), event_type=EventType.TASK_EXCEPTION), make_event(2)])
    connection = sqlite3.connect(tmp_path / "e.sqlite")
    assert connection.execute(only_block("sqlite", "sql")).fetchall() == [("task-1", 0.5, "bad")]
    connection.close()


def test_page_export_writes_the_columns_of_the_table(tmp_path: Path) -> None:
    with REGISTRY.event_sink("sqlite").open(SqliteSettings(file=tmp_path / "e.sqlite"), CONTEXT):
        pass
    connection = sqlite3.connect(tmp_path / "e.sqlite")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(events)")]
    connection.close()
    assert sorted(columns) == sorted(["number", *KINDS["events"].columns])
