"""Format of the report of an attempt: number of the bytes that follow the header, length of the head, head, result.

Every task process has this module in memory, so its imports are light.

Invariant, with a test: no content of a report raises an exception or ends up in an event that is not JSON. A report of
another length than its header says, such as one that two processes have written, is damaged; so is one with a field in
its head that is unknown or of another type.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cloud_tasks.compact_json import compact_encoder

__all__ = ["HEADER_LENGTH", "NO_HEAD", "SIZE_LENGTH", "encode_report", "report_size", "split_report"]

SIZE_LENGTH = 8
HEADER_LENGTH = 2 * SIZE_LENGTH
NO_HEAD = bytes(SIZE_LENGTH)
"""Length of the head of a report that consists of the result."""
_CHECKED_RESULT = 4096
"""Bytes of a result that is parsed as JSON; a longer one is only checked for its length."""
_MAX_NUMBER = 1 << 63
_encode_head = compact_encoder(default=str)
_decode: Callable[[str], tuple[Any, int]] = json.JSONDecoder().raw_decode
"""Parses JSON without blanks before it; returns the value and its end. Faster than `json.loads`."""


def _is_text(value: Any) -> bool:
    return type(value) is str and (value.isascii() or not _has_surrogate(value))


def _is_whole(value: Any) -> bool:
    return type(value) is int and -_MAX_NUMBER < value < _MAX_NUMBER


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_delay(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value < _MAX_NUMBER)


def _is_texts(value: Any) -> bool:
    return type(value) is list and all(map(_is_text, value))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("error", "message", "trace", "own_failure", "reason", "warning"), _is_text),
    **dict.fromkeys(("result_address", "result_type", "result_pickle", "result_repr"), _is_text),
    **dict.fromkeys(("exit_code", "errno", "result_bytes"), _is_whole),
    **dict.fromkeys(("exited", "retry"), _is_flag),
    **dict.fromkeys(("after", "at"), _is_delay),
    "kinds": _is_texts,
    "notice": lambda value: _is_texts(value) and len(value) == 2,
}
"""Check of each field of a head."""


def encode_report(head: dict[str, Any], result: bytes) -> bytes:
    """Return the report with a head, empty for none, and the JSON of a result."""
    if not head:
        return len(result).to_bytes(SIZE_LENGTH, "little") + NO_HEAD + result
    encoded = _encode_head(head).encode("utf-8", "replace")
    size = len(encoded) + len(result)
    return b"".join(
        (size.to_bytes(SIZE_LENGTH, "little"), len(encoded).to_bytes(SIZE_LENGTH, "little"), encoded, result)
    )


def report_size(header: bytes) -> int:
    """Return the number of bytes of a whole report by its first bytes."""
    return HEADER_LENGTH + int.from_bytes(header[:SIZE_LENGTH], "little")


def split_report(report: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Return head and result of a report; no head if it is damaged or incomplete."""
    length = int.from_bytes(report[SIZE_LENGTH:HEADER_LENGTH], "little")
    end = HEADER_LENGTH + length
    if len(report) <= HEADER_LENGTH or len(report) != report_size(report) or len(report) < end:
        return None, b""
    result = report[end:]
    try:
        if len(result) <= _CHECKED_RESULT and result:
            text = result.decode()
            if _decode(text)[1] != len(text):
                return None, b""
        head = json.loads(report[HEADER_LENGTH:end]) if length else {}
    except (ValueError, RecursionError):
        return None, b""
    return (head, result) if not length or _is_head(head) else (None, b"")


def _is_head(head: Any) -> bool:
    return type(head) is dict and all(name in _CHECKS and _CHECKS[name](value) for name, value in head.items())


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
