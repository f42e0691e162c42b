"""Format of the report of an attempt: number of the bytes that follow the header, length of the head, head, result.

Every task process has this module in memory, so its imports are light.

Invariant, with a test: no content of a report raises an exception or ends up in an event that is not JSON. A report of
another length than its header says, such as one that two processes have written, is damaged.
"""

from __future__ import annotations

import json
from typing import Any

from cloud_tasks.compact_json import compact_encoder

__all__ = ["HEADER_LENGTH", "NO_HEAD", "SIZE_LENGTH", "encode_report", "report_size", "split_report"]

SIZE_LENGTH = 8
HEADER_LENGTH = 2 * SIZE_LENGTH
NO_HEAD = bytes(SIZE_LENGTH)
"""Length of the head of a report that consists of the result."""
_CHECKED_RESULT = 4096
"""Bytes of a result that is parsed as JSON; a longer one is only checked for its length."""
_encode_head = compact_encoder(default=str)


def encode_report(head: dict[str, Any], result: bytes) -> bytes:
    """Return the report with a head, empty for none, and the JSON of a result."""
    encoded = _encode_head(head).encode("utf-8", "replace") if head else b""
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
            json.loads(result.decode())
        head = json.loads(report[HEADER_LENGTH:end]) if length else {}
    except (ValueError, RecursionError):
        return None, b""
    return (head, result) if isinstance(head, dict) else (None, b"")
