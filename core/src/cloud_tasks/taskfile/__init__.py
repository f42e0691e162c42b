"""Task files: opening them, streaming a JSON list, validating an entry.

Uses the standard library only (fsspec for URLs), so that a worker with a local task file starts fast.
"""

from __future__ import annotations

from cloud_tasks.taskfile.entry import check_data, fields_of_entry
from cloud_tasks.taskfile.json_stream import JsonList
from cloud_tasks.taskfile.open_file import (
    COMPRESSIONS,
    MAX_TASK_LENGTH,
    STANDARD_INPUT,
    display_name,
    is_url,
    not_utf8,
    open_binary,
    place_of,
)
from cloud_tasks.taskfile.strict_json import check_entry, fast_scan, locate_problem, may_repeat_keys, strict_scan

__all__ = [
    "COMPRESSIONS",
    "MAX_TASK_LENGTH",
    "STANDARD_INPUT",
    "JsonList",
    "check_data",
    "check_entry",
    "display_name",
    "fast_scan",
    "fields_of_entry",
    "is_url",
    "locate_problem",
    "may_repeat_keys",
    "not_utf8",
    "open_binary",
    "place_of",
    "strict_scan",
]
