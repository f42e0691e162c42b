"""`SqliteSink` passes the contract of event sinks."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cloud_tasks import builtin
from cloud_tasks.builtin.sinks.event_row import COLUMNS
from cloud_tasks.builtin.sinks.settings import SqliteSettings
from cloud_tasks.registry import Registry
from cloud_tasks.testing import EventSinkContract, EventSinkSubject

REGISTRY = Registry(builtins=[("builtin", builtin)], only=())


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the event's JSON object."""
    details = json.loads(row.pop("details"))
    return {name: value for name, value in row.items() if value is not None} | details


def read_sqlite(file: Path) -> list[dict[str, Any]]:
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    try:
        rows = [dict(row) for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM events ORDER BY number")]
    finally:
        connection.close()
    return [flat(row | {"retry": None if row["retry"] is None else bool(row["retry"])}) for row in rows]


class TestSqliteSink(EventSinkContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> EventSinkSubject:
        file = tmp_path / "events.sqlite"
        return EventSinkSubject(
            backend=REGISTRY.event_sink("sqlite"),
            settings=SqliteSettings(file=file),
            read_back=lambda: read_sqlite(file),
        )
