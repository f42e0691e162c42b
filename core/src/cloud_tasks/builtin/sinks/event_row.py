"""Events as rows of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from cloud_tasks.model import Event

__all__ = ["COLUMNS", "row_of"]

COLUMNS: Mapping[str, str] = {
    "event_id": "text",
    "timestamp": "time",
    "event_type": "text",
    "hostname": "text",
    "instance_id": "text",
    "task_id": "text",
    "attempt": "integer",
    "retry": "flag",
    "elapsed_time": "number",
    "details": "json",
}
"""Type of each column; ``details`` is a JSON object with all other fields of the event."""

_MAX_INTEGER = 2**63 - 1


def row_of(event: Event) -> tuple[Any, ...]:
    """Return the values of an event in the order of the columns; values of a wrong type become None."""
    return (
        _text(event.event_id),
        event.timestamp.astimezone(UTC),
        event.event_type.value,
        _text(event.hostname),
        _text(event.instance_id),
        _text(event.task_id),
        event.attempt if event.attempt is not None and abs(event.attempt) <= _MAX_INTEGER else None,
        event.retry if isinstance(event.retry, bool) else None,
        event.elapsed_time,
        json.dumps(dict(event.details), separators=(",", ":"), default=str),
    )


def _text(value: object) -> str | None:
    """Return a value as valid UTF-8 text: JSON may contain single surrogates."""
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
