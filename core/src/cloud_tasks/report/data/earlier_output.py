"""Recognition of files that this program wrote, so that no other file is overwritten.

Invariant, with a test: every output is recognized, and no file of another origin.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_event_log", "is_export_or_report", "is_task_dump"]

_HEAD_BYTES = 64 * 1024
_MAX_FOOTER_BYTES = 2**24

_TEXT = rb'(?:null|"(?:[^"\\]|\\.)*")'
_OUTPUTS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        # Exports: the first columns of each kind of rows.
        rb"task_id,(?:status|attempt),",
        rb"timestamp,event_id,",
        rb'\{"task_id":' + _TEXT + rb',"(?:status|attempt)":',
        rb'\{"timestamp":' + _TEXT + rb',"event_id":',
        # Reports: text, JSON, Markdown and HTML.
        rb"={60}\n=== ",
        rb'\{\n  "job_id": "[^"\n]*",\n  "run_id": ',
        rb"# Job [^\n]*\n\nAs of \d{4}-",
        rb'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta [^\n]*\n<meta name="generator" content="cloud-tasks">',
    )
)
_PARQUET = b"PAR1"
_PARQUET_COLUMNS = ((b"task_id", b"status"), (b"task_id", b"attempt"), (b"timestamp", b"event_id"))
_EVENT = re.compile(rb'\{"timestamp": ?"[^"\n]*",[^\n]*"event_type": ?"')
_TASK_DUMP = b'[\n{"task_id": "'


def is_export_or_report(file: Path) -> bool:
    """Return whether a file is empty or was written by ``export`` or ``report``, in any of their formats."""
    with file.open("rb") as content:
        head = content.read(_HEAD_BYTES)
        if not head or any(pattern.match(head) for pattern in _OUTPUTS):
            return True
        return head.startswith(_PARQUET) and _is_parquet_export(content)


def is_event_log(file: Path) -> bool:
    """Return whether a file is empty or holds events as JSON Lines, to which others can be appended."""
    head = _head(file)
    return not head or _EVENT.match(head) is not None


def is_task_dump(file: Path) -> bool:
    """Return whether a file is empty or was written by `dump_tasks`."""
    head = _head(file)
    return not head or head.startswith(_TASK_DUMP)


def _head(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(_HEAD_BYTES)


def _is_parquet_export(content: BinaryIO) -> bool:
    """Return whether the schema, at the end of the file, has the first columns of an export."""
    end = content.seek(0, 2)
    content.seek(max(0, end - 8))
    tail = content.read()
    size = int.from_bytes(tail[:4], "little")
    if not tail.endswith(_PARQUET) or not 0 < size <= min(end - 8, _MAX_FOOTER_BYTES):
        return False
    content.seek(end - 8 - size)
    footer = content.read(size)
    places = [[footer.find(name) for name in names] for names in _PARQUET_COLUMNS]
    return any(0 <= first < second for first, second in places)
