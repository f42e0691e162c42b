"""Messages of the task queue: one task, with the number of its attempt."""

from __future__ import annotations

import json
import json.encoder
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cloud_tasks.convert.message_text import MalformedMessageError, clean_task_id, decode_text, text_of
from cloud_tasks.model import MAX_ATTEMPT, TaskMessage
from cloud_tasks.sanitize import UnusableValueError, clean_value, finite_seconds, whole_number

__all__ = ["EncodedData", "decode_task_message", "encode_task_message"]

_quoted = json.encoder.encode_basestring_ascii


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
        return _task_message(decode_text(text_of(body)[0]))
    except UnusableValueError as error:
        raise MalformedMessageError(f"not a task message: {error}") from None


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
        task_id=clean_task_id(task_id),
        data=data,
        attempt=whole_number(fields.get("attempt", 1), low=1, high=MAX_ATTEMPT),
        losses=whole_number(fields.get("losses", 0), low=0, high=MAX_ATTEMPT),
        not_before=due,
        delay=finite_seconds(fields.get("delay")),
    )
