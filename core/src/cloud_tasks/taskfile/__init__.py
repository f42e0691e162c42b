"""Task files: opening them, streaming a JSON list, validating an entry.

Uses the standard library only (fsspec for URLs), so that a worker with a local task file starts fast.
"""

from __future__ import annotations

from cloud_tasks.taskfile.entry import fields_of_entry, kind_of
from cloud_tasks.taskfile.json_stream import JsonList
from cloud_tasks.taskfile.open_file import COMPRESSIONS, is_url, open_binary, place_of

__all__ = [
    "COMPRESSIONS",
    "JsonList",
    "fields_of_entry",
    "is_url",
    "kind_of",
    "open_binary",
    "place_of",
]
