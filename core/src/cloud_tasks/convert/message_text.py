"""Text of queue messages: decoding of their bytes, and what both kinds of message have in common."""

from __future__ import annotations

import json
from typing import Any

from cloud_tasks.sanitize import UnusableValueError, clean_text

__all__ = ["MAX_TASK_ID", "MalformedMessageError", "clean_task_id", "decode_text", "text_of"]

_decode = json.JSONDecoder().decode
MAX_TASK_ID = 100_000


class MalformedMessageError(ValueError):
    """A queue message that cannot be decoded; it blocks no other message.

    The collector dead-letters such an event message; a worker reports and acks such a task message.
    """


def text_of(body: bytes) -> tuple[str, bool]:
    """Return the text of a message, and whether it contains no surrogates, in pairs or alone."""
    try:
        try:
            text, is_plain = body.decode(), b"\\ud" not in body and b"\\uD" not in body
        except UnicodeDecodeError:
            text, is_plain = body.decode(json.detect_encoding(body), "surrogatepass"), False
        return text.removeprefix("\ufeff"), is_plain
    except UnicodeDecodeError:
        raise UnusableValueError("not JSON: not UTF-8") from None


def decode_text(text: str) -> Any:
    """Return the value of JSON as it is: its content is not checked.

    Raises:
        UnusableValueError: Not JSON.
    """
    try:
        return _decode(text)
    except RecursionError:
        raise UnusableValueError("not JSON: nested too deeply") from None
    except (ValueError, MemoryError) as error:
        raise UnusableValueError(f"not JSON: {clean_text(str(error), 200)}") from None


def clean_task_id(text: str) -> str:
    """Return a task id. One that no task can have is refused rather than changed: it could become that of another."""
    if not text or len(text) > MAX_TASK_ID or clean_text(text) != text:
        raise UnusableValueError("a task_id that is empty, too long or not valid Unicode text")
    return text
