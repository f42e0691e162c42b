"""Settings of event sinks on an instance: from the environment alone."""

from __future__ import annotations

from pathlib import Path

from cloud_tasks.builtin.sink_settings import SqliteSettings, WebhookSettings
from cloud_tasks.worker.environment import settings_from_environment


def test_lists_of_numbers_are_read_whatever_separates_them() -> None:
    for text in ("0.5 0.9", "0.5,0.9", "0.5, 0.9"):
        environ = {"CLOUD_TASKS_WEBHOOK_BUDGET": text, "CLOUD_TASKS_WEBHOOK_FAILURE_RATE": "0.3"}
        found = settings_from_environment(WebhookSettings, "webhook", environ)
        assert found == WebhookSettings(budget=(0.5, 0.9), failure_rate=0.3)


def test_paths_are_read() -> None:
    found = settings_from_environment(SqliteSettings, "sqlite", {"CLOUD_TASKS_SQLITE_FILE": "/somewhere/else"})
    assert found == SqliteSettings(file=Path("/somewhere/else"))
