"""Task source: a file with one JSON task per line."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.taskfile import (
    MAX_TASK_LENGTH,
    check_entry,
    display_name,
    fast_scan,
    fields_of_entry,
    locate_problem,
    may_repeat_keys,
    not_utf8,
    open_binary,
    place_of,
    strict_scan,
)

__all__ = ["JsonLinesSource"]


class JsonLinesSource:
    """Tasks of a JSON Lines file or URL; empty lines are skipped.

    Raises (while iterating):
        InputError: A task is invalid; the message has file, line, number of the task and reason.
    """

    def __init__(self, location: str, base_dir: Path) -> None:
        self._place = place_of(location, base_dir)
        self._line = 0
        self.where = display_name(self._place)

    def __iter__(self) -> Iterator[Task]:
        scan = fast_scan
        number = 0
        with open_binary(self._place) as stream:
            # As iteration over the stream, but a line has an end.
            lines = iter(functools.partial(stream.readline, MAX_TASK_LENGTH), b"")
            for self._line, line in enumerate(lines, start=1):
                if len(line) == MAX_TASK_LENGTH:
                    raise InputError(f"longer than {MAX_TASK_LENGTH >> 20} MB", where=self.place())
                try:
                    text = line.decode("utf-8-sig" if self._line == 1 else "utf-8").strip()
                    if not text:
                        continue
                    number += 1
                    entry, end = scan(text, 0)
                    if end < len(text):
                        raise json.JSONDecodeError("Extra data", text, len(text) - len(text[end:].lstrip()))
                    if scan is fast_scan and may_repeat_keys(entry, text, 0, end):
                        # Other tasks of the file are probably alike: decode no further one twice.
                        scan = strict_scan
                        entry, end = scan(text, 0)
                except UnicodeDecodeError as error:
                    raise not_utf8(line, error.reason, self.place()) from error
                except json.JSONDecodeError as error:
                    raise self._invalid(error, number, line) from error
                except (ValueError, RecursionError) as error:
                    problem = locate_problem(text, 0)
                    reason = problem.reason if problem is not None else str(error)
                    raise InputError(f"task {number}: {reason}", where=self.place()) from error
                problem = check_entry(entry, text, 0, end)
                if problem is not None:
                    raise InputError(f"task {number}: {problem.reason}", where=self.place())
                task_id, data = fields_of_entry(entry, number, self.place)
                yield Task(task_id=task_id, data=data)

    def place(self) -> str:
        """Return file and line of the task that was yielded last."""
        return f"{self.where}:{self._line}"

    def expected_length(self) -> int | None:
        return None

    def _invalid(self, error: json.JSONDecodeError, number: int, line: bytes) -> InputError:
        reason = error.msg[:1].lower() + error.msg[1:]
        hint = "each line must be one whole task"
        if not line.endswith(b"\n"):
            hint = "the file may be truncated; create it again"
        is_cut = error.pos >= len(error.doc)
        if number == 1 and (error.doc[0] == "[" or (error.doc[0] == "{" and is_cut and line.endswith(b"\n"))):
            hint = f"for a list of tasks over several lines, write json:{self._place}"
        return InputError(
            f"task {number}: not valid JSON: {reason} (column {error.colno})", where=self.place(), hint=hint
        )
