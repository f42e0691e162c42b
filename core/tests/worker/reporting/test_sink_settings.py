"""Settings of event sinks on an instance, read from the environment."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.builtin.sinks.settings import SqliteSettings
from cloud_tasks.plugin import setting
from cloud_tasks.worker.supervisor.environment import settings_from_environment


@attrs.frozen(kw_only=True)
class PagerSettings:
    levels: tuple[float, ...] = setting(help="Levels", default=(1.0,))
    rate: float | None = setting(help="Rate", default=0.2)


def test_settings_from_environment_reads_lists_of_numbers_with_any_separator() -> None:
    for text in ("0.5 0.9", "0.5,0.9", "0.5, 0.9"):
        environ = {"CLOUD_TASKS_PAGER_LEVELS": text, "CLOUD_TASKS_PAGER_RATE": "0.3"}
        found = settings_from_environment(PagerSettings, "pager", environ)
        assert found == PagerSettings(levels=(0.5, 0.9), rate=0.3)


def test_settings_from_environment_reads_paths() -> None:
    found = settings_from_environment(SqliteSettings, "sqlite", {"CLOUD_TASKS_SQLITE_FILE": "/somewhere/else"})
    assert found == SqliteSettings(file=Path("/somewhere/else"))
