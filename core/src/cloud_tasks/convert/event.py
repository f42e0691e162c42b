"""One event as a flat JSON object, and the checks of its fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.convert.message_text import MAX_TASK_ID, clean_task_id
from cloud_tasks.model import MAX_ATTEMPT, Event, EventType
from cloud_tasks.sanitize import (
    UnusableValueError,
    clean_text,
    clean_value,
    finite_seconds,
    plausible_time,
    whole_number,
)

__all__ = ["MAX_AHEAD", "clean_event", "event_from_json", "event_to_json"]

MAX_AHEAD = timedelta(days=1)
"""Time by which a worker's clock may be ahead. A later time would count as a heartbeat for as long."""
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_ID = 200
"""Characters of an event id, above which its digest stands for it."""
_MAX_NAME = 500
"""Characters of a host name or instance id."""
_LONG = 1 << 64
"""Numbers beyond this size, infinities and NaN are checked one by one."""
_EVENT_TYPES: dict[Any, EventType] = {event_type.value: event_type for event_type in EventType}
_SCALARS = ("event_id", "hostname", "instance_id", "task_id", "attempt", "retry", "elapsed_time")


def event_to_json(event: Event) -> dict[str, Any]:
    """Return an event as one flat JSON object; fields that are None are omitted."""
    flat: dict[str, Any] = {
        "timestamp": event.timestamp.astimezone(UTC).isoformat(),
        "hostname": event.hostname,
        "event_type": event.event_type.value,
        "event_id": event.event_id,
    }
    for name in ("instance_id", "task_id", "attempt", "retry", "elapsed_time"):
        value = getattr(event, name)
        if value is not None:
            flat[name] = value
    for name, value in event.details.items():
        flat.setdefault(name, value)
    return flat


def clean_event(event: Event, received: datetime) -> Event:
    """Return an event of any origin as `decode_events` would return it.

    Args:
        received: Replaces an implausible time.

    Raises:
        UnusableValueError: Its type, task or attempt cannot be used.
    """
    at = event.timestamp.isoformat() if isinstance(event.timestamp, datetime) else None
    kind = event.event_type
    fields = {
        **(event.details if isinstance(event.details, Mapping) else {}),
        "timestamp": at,
        "event_type": kind.value if isinstance(kind, EventType) else None,
        **{name: getattr(event, name) for name in _SCALARS},
    }
    return event_from_json(fields, received, received + MAX_AHEAD, is_plain=False)


def event_from_json(entry: dict[str, Any], received: datetime, latest: datetime, *, is_plain: bool) -> Event:
    """Return the event of a JSON object, which is emptied: the fields that remain are the details.

    Args:
        latest: The latest plausible time.
        is_plain: Whether all texts are known to be clean.
    """
    notes: list[str] = []
    if not is_plain:
        if isinstance(entry.get("task_id"), str):
            clean_task_id(entry["task_id"])
        entry = _clean_fields(entry, notes)
    take = entry.pop
    type_text, timestamp_text = take("event_type", None), take("timestamp", None)
    event_type = _EVENT_TYPES.get(type_text) if type(type_text) is str else None
    if event_type is None:
        raise UnusableValueError("an event of an unknown type")
    task_id, attempt = take("task_id", None), take("attempt", None)
    if task_id is not None and (type(task_id) is not str or len(task_id) > MAX_TASK_ID):
        raise UnusableValueError("task_id must be text")
    if attempt is not None and not (type(attempt) is int and 0 < attempt <= MAX_ATTEMPT):
        attempt = whole_number(attempt, low=1, high=MAX_ATTEMPT)
    try:
        timestamp = datetime.fromisoformat(timestamp_text)
        is_plausible = timestamp.tzinfo is UTC and _EARLIEST <= timestamp <= latest
    except (TypeError, ValueError):
        is_plausible = False
    if not is_plausible:
        timestamp = _time(timestamp_text, received, latest, notes)
    hostname, instance_id = take("hostname", ""), take("instance_id", None)
    if type(hostname) is not str or len(hostname) > _MAX_NAME:
        hostname = _name(hostname, "hostname", notes) or ""
    if instance_id is not None and (type(instance_id) is not str or len(instance_id) > _MAX_NAME):
        instance_id = _name(instance_id, "instance_id", notes)
    event_id = take("event_id", None)
    if type(event_id) is not str or not event_id or len(event_id) > _MAX_ID:
        event_id = _event_id(event_id, event_type, hostname, task_id, timestamp_text, entry)
    retry, elapsed = take("retry", None), take("elapsed_time", None)
    if retry is not None and retry is not True and retry is not False:
        retry = _flag(retry, notes)
    if elapsed is not None and not (type(elapsed) is float and 0.0 <= elapsed < 1e9):
        elapsed = finite_seconds(elapsed)
        if elapsed is None:
            notes.append("no usable elapsed_time")
    for value in entry.values():
        kind = type(value)
        if kind is dict or kind is list or ((kind is int or kind is float) and not -_LONG < value < _LONG):
            entry = _clean_fields(entry, notes) if is_plain else entry
            break
    if notes:
        entry["note"] = "; ".join(notes)
    return Event(
        event_id=event_id,
        event_type=event_type,
        timestamp=timestamp,
        hostname=hostname,
        instance_id=instance_id,
        task_id=task_id,
        attempt=attempt,
        retry=retry,
        elapsed_time=elapsed,
        details=entry,
    )


def _clean_fields(fields: Mapping[Any, Any], notes: list[str]) -> dict[str, Any]:
    """Return the fields with clean values; a value that cannot be used becomes None, and is noted."""
    cleaned: dict[str, Any] = {}
    for name, value in fields.items():
        if not isinstance(name, str):
            notes.append("a field whose name is not text is left out")
            continue
        key = clean_text(str.__str__(name))
        try:
            cleaned[key] = clean_value(value)
        except UnusableValueError as error:
            cleaned[key] = None
            notes.append(f"no usable {clean_text(key, 60)}: {error}")
    return cleaned


def _time(text: Any, received: datetime, latest: datetime, notes: list[str]) -> datetime:
    """Return a time that is not UTC or not plausible."""
    found = plausible_time(text)
    if found is not None and found <= latest:
        return found
    notes.append("no plausible timestamp, the time of receipt is used")
    return received


def _name(value: Any, field: str, notes: list[str]) -> str | None:
    """Return a host name or instance id that is too long or not text."""
    if isinstance(value, str):
        return clean_text(value, _MAX_NAME)
    if type(value) is int and -_LONG < value < _LONG:
        return str(value)
    notes.append(f"no usable {field}")
    return None


def _flag(value: Any, notes: list[str]) -> bool | None:
    if type(value) in (int, float) and value in (0, 1):
        return bool(value)
    notes.append("no usable retry")
    return None


def _event_id(
    given: Any, event_type: EventType, hostname: str, task_id: str | None, timestamp: Any, rest: Mapping[str, Any]
) -> str:
    """Return the id of an event without a usable one: the same for each delivery of the event.

    Older workers send no id, and at most one event of a type for a task at a time.
    """
    if given:
        text = given if isinstance(given, str) else _any_text(given)
    else:
        moment = timestamp if isinstance(timestamp, str) and timestamp else _any_text([timestamp, dict(rest)])
        text = f"{event_type.value}/{hostname}/{task_id}/{moment}"
    if len(text) <= _MAX_ID:
        return text
    return f"digest-{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def _any_text(value: Any) -> str:
    try:
        return json.dumps(clean_value(value), sort_keys=True)
    except UnusableValueError:
        return "unusable"
