"""Conversion between the model and JSON: the cattrs converter, and the wire formats of task messages and events.

The wire functions are written by hand: they run once for each task and event, and accept messages of other tools.
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import cattrs
from cattrs.preconf.json import make_converter

from cloud_tasks.model import Event, EventType, Money, TaskMessage

__all__ = [
    "EncodedData",
    "MalformedMessageError",
    "decode_events",
    "decode_task_message",
    "encode_events",
    "encode_task_message",
    "event_to_json",
    "make_model_converter",
]


_quoted = json.encoder.encode_basestring_ascii


class MalformedMessageError(ValueError):
    """A queue message that cannot be decoded; it is dead-lettered and blocks no other message."""


def make_model_converter() -> cattrs.Converter:
    """Return a converter: unknown keys forbidden, `Money` as decimal text, timedelta as seconds, paths as text."""
    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Money, lambda money: str(money.usd))
    converter.register_structure_hook(Money, lambda value, _: Money(Decimal(str(value))))
    converter.register_unstructure_hook(timedelta, lambda value: value.total_seconds())
    converter.register_structure_hook(timedelta, lambda value, _: timedelta(seconds=float(value)))
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    return converter


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
    """Return the task message in a queue message.

    Raises:
        MalformedMessageError: Not JSON, not an object, or a field is missing or of the wrong type.
    """
    try:
        fields = json.loads(body)
        task_id = fields["task_id"] if "task_id" in fields else fields["id"]
        data = fields.get("data", {})
        if not isinstance(task_id, str) or not isinstance(data, dict):
            raise TypeError("task_id must be a string and data an object")
        return TaskMessage(
            task_id=task_id,
            data=data,
            attempt=int(fields.get("attempt", 1)),
            losses=int(fields.get("losses", 0)),
            not_before=float(fields.get("not_before", 0.0)),
            delay=None if fields.get("delay") is None else float(fields["delay"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MalformedMessageError(f"not a task message: {error}") from error


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


def decode_events(body: bytes) -> tuple[Sequence[Event], Sequence[str]]:
    """Return the events of a message, and a reason for each entry that cannot be decoded.

    Raises:
        MalformedMessageError: The message is not JSON, or neither an object nor a list.
    """
    try:
        content = json.loads(body)
    except ValueError as error:
        raise MalformedMessageError(f"not JSON: {error}") from error
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise MalformedMessageError("neither an event nor a list of events")
    events: list[Event] = []
    broken: list[str] = []
    for entry in content:
        try:
            events.append(_event_from_json(entry))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            broken.append(f"{type(error).__name__}: {error}")
    return events, broken


def _event_from_json(entry: dict[str, Any]) -> Event:
    """Return the event of a JSON object, which is emptied: the fields that remain are the details."""
    timestamp_text, type_text = entry.pop("timestamp"), entry.pop("event_type")
    timestamp = datetime.fromisoformat(timestamp_text)
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)
    event_type = _EVENT_TYPES.get(type_text) or EventType(type_text)
    take = entry.pop
    task_id, attempt, hostname = take("task_id", None), take("attempt", None), take("hostname", "")
    if task_id is not None and not isinstance(task_id, str):
        raise TypeError("task_id must be a string")
    # Older workers send no id, and at most one event of a type for a task at a time.
    event_id = take("event_id", None) or f"{event_type.value}/{hostname}/{task_id}/{timestamp_text}"
    elapsed = take("elapsed_time", None)
    return Event(
        event_id=str(event_id),
        event_type=event_type,
        timestamp=timestamp,
        hostname=str(hostname),
        instance_id=take("instance_id", None),
        task_id=task_id,
        attempt=None if attempt is None else int(attempt),
        retry=take("retry", None),
        elapsed_time=None if elapsed is None else float(elapsed),
        details=entry,
    )
