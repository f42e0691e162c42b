"""Wire formats of task messages and event batches, as JSON.

The functions are written by hand: they run once for each task and event, and accept messages of other tools.
Invariants, each with a test:

1. Whatever a message contains, nothing but `MalformedMessageError` is raised, and what is returned can be stored,
   encoded and decoded (`cloud_tasks.sanitize`).
2. A malformed event of a message affects no other one.
3. An event whose type, task, attempt or run cannot be used is malformed. A field of lesser weight is replaced, and the
   detail ``note`` names it: the outcome of the attempt counts.
"""

from __future__ import annotations

import hashlib
import json
import json.encoder
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.model import MAX_ATTEMPT, Event, EventType, TaskMessage
from cloud_tasks.sanitize import (
    UnusableValueError,
    clean_text,
    clean_value,
    finite_seconds,
    plausible_time,
    whole_number,
)

__all__ = [
    "EncodedData",
    "MalformedMessageError",
    "clean_event",
    "decode_events",
    "decode_task_message",
    "encode_events",
    "encode_task_message",
    "event_to_json",
]


_quoted = json.encoder.encode_basestring_ascii


class MalformedMessageError(ValueError):
    """A queue message that cannot be decoded; it blocks no other message.

    The collector dead-letters such an event message; a worker reports and acks such a task message.
    """


class EncodedData(Mapping[str, Any]):
    """The data of a task as JSON text, a mapping that is decoded on first access.

    Tasks from the job database carry it, so that they are queued without decoding and encoding their data again.

    Args:
        text: A JSON object from `compact_encoder`; `encode_task_message` sends it unchanged.
    """

    __slots__ = ("_decoded", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._decoded: dict[str, Any] | None = None

    def _decode(self) -> dict[str, Any]:
        if self._decoded is None:
            self._decoded = json.loads(self.text)
        return self._decoded

    def __getitem__(self, key: str) -> Any:
        return self._decode()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decode())

    def __len__(self) -> int:
        return len(self._decode())

    def __repr__(self) -> str:
        return f"EncodedData({self.text!r})"


def encode_task_message(message: TaskMessage) -> bytes:
    """Return a task message as JSON; fields with their default value are omitted."""
    data = message.data
    text = data.text if type(data) is EncodedData else json.dumps(data, separators=(",", ":"))
    rest = ""
    if message.attempt != 1:
        rest += f',"attempt":{message.attempt}'
    if message.losses:
        rest += f',"losses":{message.losses}'
    if message.not_before:
        rest += f',"not_before":{json.dumps(message.not_before)}'
    if message.delay is not None:
        rest += f',"delay":{json.dumps(message.delay)}'
    return f'{{"task_id":{_quoted(message.task_id)},"data":{text}{rest}}}'.encode()


def decode_task_message(body: bytes) -> TaskMessage:
    """Return the task message in a queue message, with its data as it is: a lone surrogate may be part of a file name.

    Raises:
        MalformedMessageError: Not JSON, not an object, or a field is missing or cannot be used.
    """
    try:
        return _task_message(_DECODE(_text_of(body)[0]))
    except UnusableValueError as error:
        raise MalformedMessageError(f"not a task message: {error}") from None
    except _DECODING_ERRORS as error:
        raise MalformedMessageError(f"not a task message: {_undecodable(error)}") from None


def _task_message(fields: Any) -> TaskMessage:
    if type(fields) is not dict:
        raise UnusableValueError("not an object")
    task_id, data = fields.get("task_id", fields.get("id")), fields.get("data", {})
    if type(task_id) is not str or type(data) is not dict:
        raise UnusableValueError("task_id must be text and data an object")
    # Checked only: depth and numbers that no other program could decode again.
    clean_value(data, keep_nonfinite=True)
    not_before = fields.get("not_before", 0.0)
    try:
        due = math.nan if type(not_before) is bool else float(not_before)
    except (TypeError, ValueError, OverflowError):
        due = math.nan
    if not 0.0 <= due < math.inf:
        raise UnusableValueError("not_before must be a time in Unix seconds")
    return TaskMessage(
        task_id=_identifier(task_id),
        data=data,
        attempt=whole_number(fields.get("attempt", 1), low=1, high=MAX_ATTEMPT),
        losses=whole_number(fields.get("losses", 0), low=0, high=MAX_ATTEMPT),
        not_before=due,
        delay=finite_seconds(fields.get("delay")),
    )


_EVENT_TYPES: dict[Any, EventType] = {event_type.value: event_type for event_type in EventType}


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


def encode_events(events: Iterable[Event]) -> bytes:
    """Return a batch of events as one message of the event queue."""
    return json.dumps([event_to_json(event) for event in events], separators=(",", ":")).encode()


def decode_events(
    body: bytes, *, received: datetime | None = None, run_id: str | None = None
) -> tuple[Sequence[Event], Sequence[str]]:
    """Return the events of a message, and a reason for each entry that cannot be used.

    Args:
        received: Time of receipt, UTC, which replaces an implausible time of an event; None for now.
        run_id: The run whose events are expected: an event that names another one cannot be used. None for any run.

    Raises:
        MalformedMessageError: The message is not JSON, or neither an object nor a list.
    """
    try:
        text, is_plain = _text_of(body)
        entries, broken = _entries(text)
    except UnusableValueError as error:
        raise MalformedMessageError(str(error)) from None
    now = received or datetime.now(UTC)
    latest = now + _MAX_AHEAD
    events: list[Event] = []
    for entry in entries:
        try:
            if type(entry) is not dict:
                raise UnusableValueError("an entry that is not an object")
            if entry.pop("run_id", run_id) != run_id and run_id is not None:
                raise UnusableValueError("an event of another run")
            events.append(_event_from_json(entry, now, latest, is_plain=is_plain))
        except UnusableValueError as error:
            broken.append(str(error))
    return events, broken


_MAX_AHEAD = timedelta(days=1)
"""Time by which a worker's clock may be ahead. A later time would count as a heartbeat for as long."""
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_ID = 200
"""Characters of an event id, above which its digest stands for it."""
_MAX_NAME = 500
"""Characters of a host name or instance id."""
_MAX_TASK_ID = 100_000
_MAX_SPLIT = 1 << 25
"""Characters of the longest message that is split into its entries if it cannot be decoded as a whole."""
_LONG = 1 << 64
"""Numbers beyond this size, infinities and NaN are checked one by one."""


def _identifier(text: str) -> str:
    """Return a task id. One that no task can have is refused rather than changed: it could become that of another."""
    if not text or len(text) > _MAX_TASK_ID or clean_text(text) != text:
        raise UnusableValueError("a task_id that is empty, too long or not valid Unicode text")
    return text


def _text_of(body: bytes) -> tuple[str, bool]:
    """Return the text of a message, and whether it contains no surrogates, in pairs or alone."""
    try:
        try:
            text, is_plain = body.decode(), b"\\ud" not in body and b"\\uD" not in body
        except UnicodeDecodeError:
            text, is_plain = body.decode(json.detect_encoding(body), "surrogatepass"), False
        return text.removeprefix("\ufeff"), is_plain
    except UnicodeDecodeError:
        raise UnusableValueError("not JSON: not UTF-8") from None


_DECODE = json.JSONDecoder().decode
_DECODING_ERRORS = (ValueError, RecursionError, MemoryError)


def _entries(text: str) -> tuple[list[Any], list[str]]:
    """Return the entries of a message, and a reason for each one that cannot be decoded."""
    try:
        content = _DECODE(text)
    except _DECODING_ERRORS as error:
        pieces = _split(text)
        if pieces is None:
            raise UnusableValueError(_undecodable(error)) from None
        return _decode_each(pieces)
    if type(content) is dict:
        return [content], []
    if type(content) is not list:
        raise UnusableValueError("neither an event nor a list of events")
    return content, []


def _undecodable(error: Exception) -> str:
    reason = "nested too deeply" if isinstance(error, RecursionError) else clean_text(str(error), 200)
    return f"not JSON: {reason}"


def _decode_each(pieces: Iterable[str]) -> tuple[list[Any], list[str]]:
    entries: list[Any] = []
    broken: list[str] = []
    for piece in pieces:
        try:
            entries.append(_DECODE(piece))
        except _DECODING_ERRORS as error:
            broken.append(_undecodable(error))
    return entries, broken


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)


def _split(text: str) -> list[str] | None:
    """Return the texts of the entries of a JSON list; None if it is no list or its brackets are not balanced."""
    text = text.strip(" \t\r\n")
    if len(text) > _MAX_SPLIT or not text.startswith("[") or not text.endswith("]"):
        return None
    pieces, depth, start = [], 0, 1
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
            if depth <= 0 and token.end() != len(text):
                return None
        if (mark == "," and depth == 1) or depth == 0:
            pieces.append(text[start : token.start()])
            start = token.end()
    return pieces if depth == 0 and len(pieces) > 1 else None


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
    return _event_from_json(fields, received, received + _MAX_AHEAD, is_plain=False)


_SCALARS = ("event_id", "hostname", "instance_id", "task_id", "attempt", "retry", "elapsed_time")


def _event_from_json(entry: dict[str, Any], received: datetime, latest: datetime, *, is_plain: bool) -> Event:
    """Return the event of a JSON object, which is emptied: the fields that remain are the details.

    Args:
        latest: The latest plausible time.
        is_plain: Whether all texts are known to be clean.
    """
    notes: list[str] = []
    if not is_plain:
        if isinstance(entry.get("task_id"), str):
            _identifier(entry["task_id"])
        entry = _clean_fields(entry, notes)
    take = entry.pop
    type_text, timestamp_text = take("event_type", None), take("timestamp", None)
    event_type = _EVENT_TYPES.get(type_text) if type(type_text) is str else None
    if event_type is None:
        raise UnusableValueError("an event of an unknown type")
    task_id, attempt = take("task_id", None), take("attempt", None)
    if task_id is not None and (type(task_id) is not str or len(task_id) > _MAX_TASK_ID):
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
