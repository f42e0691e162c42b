"""Task source: a file with one JSON task per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.builtin.sources.task_from_entry import task_from_entry
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.taskfile import open_binary, place_of

__all__ = ["JsonLinesSource"]


class JsonLinesSource:
    """Tasks of a JSON Lines file or URL; empty lines are skipped.

    Raises (while iterating):
        InputError: A task is invalid; the message has file, line, number of the task and reason.
    """

    def __init__(self, location: str, base_dir: Path) -> None:
        self.where = place_of(location, base_dir)

    def __iter__(self) -> Iterator[Task]:
        decode = json.JSONDecoder().decode
        number = 0
        line_number = 0

        def where() -> str:
            return f"{self.where}:{line_number}"

        with open_binary(self.where) as stream:
            for line_number, line in enumerate(stream, start=1):
                try:
                    text = line.decode("utf-8-sig" if line_number == 1 else "utf-8").strip()
                    if not text:
                        continue
                    number += 1
                    entry = decode(text)
                except UnicodeDecodeError as error:
                    raise InputError(f"not UTF-8 text ({error.reason})", where=where()) from error
                except json.JSONDecodeError as error:
                    reason = error.msg[:1].lower() + error.msg[1:]
                    cut = not line.endswith(b"\n")
                    raise InputError(
                        f"task {number}: not valid JSON: {reason} (column {error.colno})",
                        where=where(),
                        hint="the file may be truncated; create it again"
                        if cut
                        else "each line must be one whole task",
                    ) from error
                except RecursionError as error:
                    raise InputError(f"task {number}: nested too deeply", where=where()) from error
                yield task_from_entry(entry, number, where)

    def expected_length(self) -> int | None:
        return None
