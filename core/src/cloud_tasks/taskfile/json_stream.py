"""A stream of tasks from JSON, decoded one at a time in a sliding window.

The content is a list of tasks, an object ``{"tasks": [...]}``, or one task after the other, as in JSON Lines. The
decoder of the standard library reads every number as Python does (integers, NaN), unlike streaming parsers with C
number types, and returns the position of an error. Memory: the window, which grows to hold the largest task.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from cloud_tasks.errors import InputError
from cloud_tasks.sanitize import clean_text
from cloud_tasks.taskfile.entry import fields_of_entry, kind_of
from cloud_tasks.taskfile.open_file import MAX_TASK_LENGTH, not_utf8
from cloud_tasks.taskfile.strict_json import (
    Problem,
    check_entry,
    fast_scan,
    locate_problem,
    may_repeat_keys,
    strict_scan,
)

__all__ = ["JsonList"]

_CHUNK_BYTES = 1 << 16
_LOOKAHEAD = 16
"""Characters before the end of the window in which an error may be a literal, number or escape that is cut off."""

_SHORT = 200
"""Length of an entry that, without escapes, has nothing for `check_entry` to find."""
_HEAD_CHARACTERS = 4096
"""Characters that are read to recognize the form of the content."""

_TASKS_KEY = re.compile(r'\{[ \t\r\n]*"tasks"[ \t\r\n]*:[ \t\r\n]*\[')
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")


class JsonList:
    """One pass over the tasks of a JSON file.

    Args:
        where: Name of the file in errors.
        chunk_bytes: Size of a read.

    Raises (while iterating):
        InputError: File, line, position of the task and reason.
    """

    def __init__(self, stream: BinaryIO, where: str, chunk_bytes: int = _CHUNK_BYTES) -> None:
        self._stream = stream
        self._where = where
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._window = ""
        self._at = 0
        self._lines_before = 0
        """Line breaks before the window."""
        self._chunk = chunk_bytes
        self._ended = False
        self._has_escapes = True
        self._number = 0
        self._is_list = True
        """Whether commas separate the tasks, and a bracket ends them; else nothing but blanks."""

    def fields(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield id and data of each task."""
        first = self._next_character()
        if first == "":
            return
        if first not in "[{":
            raise self._not_a_list(first)
        is_wrapped = first == "{" and self._skip_tasks_key()
        self._is_list = first == "[" or is_wrapped
        if first == "[":
            self._at += 1
        if self._is_list and self._next_character() == "]":
            self._at += 1
        else:
            yield from self._entries()
        rest = self._next_character()
        if is_wrapped and rest == "}":
            self._at += 1
            rest = self._next_character()
        elif is_wrapped:
            hint = 'write {"tasks": [...]} without other keys' if rest == "," else ""
            raise self._error('expected a closing brace after the list "tasks"', self._at, hint=hint)
        if rest:
            raise self._error("unexpected content after the end of the list", self._at)

    def place(self) -> str:
        """Return file and line of the task that was yielded last."""
        return self._here()

    def _skip_tasks_key(self) -> bool:
        """Move behind ``{"tasks": [``; return False if the content does not begin with it."""
        while len(self._window) - self._at < _HEAD_CHARACTERS and not self._ended:
            self._read()
        match = _TASKS_KEY.match(self._window, self._at)
        if match is not None:
            self._at = match.end()
        return match is not None

    def _entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        scan = fast_scan
        to_next = _COMMA.match if self._is_list else _SPACE.match
        where = self._here
        self._number = 1
        while True:
            # Only the methods on the slow paths below change the window.
            window, at = self._window, self._at
            try:
                entry, end = scan(window, at)
            except json.JSONDecodeError as error:
                self._widen(error)
                continue
            except (ValueError, RecursionError) as error:
                raise self._refused(locate_problem(window, at) or Problem(str(error), at)) from error
            if type(entry) is not dict and end == len(window) and not self._ended:
                # A number may continue beyond the window.
                self._read()
                continue
            if scan is fast_scan and may_repeat_keys(entry, window, at, end):
                # Other tasks of the file are probably alike: decode no further one twice.
                scan = strict_scan
                continue
            if self._has_escapes or end - at > _SHORT:
                problem = check_entry(entry, window, at, end)
                if problem is not None:
                    raise self._refused(problem)
            if not self._is_list:
                self._require_task(entry)
            yield fields_of_entry(entry, self._number, where)
            match = to_next(window, end)
            if match is not None and match.end() < len(window) and self._is_list:
                self._at = match.end()
            elif not self._has_next(end):
                return
            self._number += 1

    def _require_task(self, entry: Any) -> None:
        """Refuse an object that holds the list of tasks beside other keys, or is nothing like a task."""
        if self._number == 1 and isinstance(entry, dict) and not {"id", "task_id", "data"} & entry.keys():
            hint = 'write [ {...}, {...} ] or {"tasks": [...]} without other keys'
            raise self._error(f"expected a list of tasks, found an object with {_keys(entry)}", self._at, hint=hint)

    def _has_next(self, end: int) -> bool:
        """Move from the end of a task to the start of the next; return False at the end of the list."""
        self._at = end
        separator = self._next_character()
        if not self._is_list:
            if separator not in ("", "{"):
                hint = "write the tasks as a list, [ {...}, {...} ], or one per line without commas"
                raise self._error(f"expected the next task, found {separator!r}", self._at, hint=hint)
            return separator != ""
        if separator == ",":
            self._at += 1
            separator = self._next_character()
            if separator:
                return True
        elif separator == "]":
            self._at += 1
            return False
        if separator == "":
            raise self._cut_short()
        raise self._error(f"expected a comma or the end of the list, found {separator!r}", self._at)

    def _widen(self, error: json.JSONDecodeError) -> None:
        """Read more if the error may be due to the end of the window; else raise it."""
        unterminated = error.msg.startswith("Unterminated string")
        if not self._ended and (unterminated or error.pos >= len(self._window) - _LOOKAHEAD):
            # A task is larger than the window: double it, so that the total work stays linear.
            if len(self._window) - self._at > MAX_TASK_LENGTH:
                raise self._error(f"task {self._number}: longer than {MAX_TASK_LENGTH >> 20} MB", self._at)
            self._read(max(self._chunk, len(self._window) - self._at))
            return
        if self._ended and (unterminated or not self._window[error.pos :].strip()):
            raise self._cut_short()
        reason = error.msg[:1].lower() + error.msg[1:]
        hint = "remove the comma before the closing bracket" if self._window[error.pos : error.pos + 1] == "]" else ""
        raise self._error(f"task {self._number}: not valid JSON: {reason}", error.pos, hint=hint)

    def _next_character(self) -> str:
        """Skip white space and return the next character; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if self._ended:
                return ""
            self._read()

    def _read(self, size: int | None = None) -> None:
        """Drop the decoded part of the window and append the next chunk."""
        self._lines_before += self._window.count("\n", 0, self._at)
        data = self._stream.read(size or self._chunk)
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            line = self._lines_before + 1 + self._window.count("\n", self._at) + data.count(b"\n", 0, error.start)
            raise not_utf8(data, error.reason, f"{self._where}:{line}") from error
        self._window = self._window[self._at :] + text
        self._has_escapes = "\\" in self._window
        self._at = 0

    def _here(self) -> str:
        return self._place(self._at)

    def _place(self, position: int) -> str:
        return f"{self._where}:{self._lines_before + 1 + self._window.count(chr(10), 0, position)}"

    def _error(self, reason: str, position: int, *, hint: str = "") -> InputError:
        return InputError(reason, where=self._place(position), hint=hint)

    def _refused(self, problem: Problem) -> InputError:
        return self._error(f"task {self._number}: {problem.reason}", problem.position)

    def _cut_short(self) -> InputError:
        place = f"in the middle of {'the list, at ' if self._is_list else ''}task {self._number}"
        hint = "the file may be truncated; create it again"
        return self._error(f"the file ends {place}", len(self._window), hint=hint)

    def _not_a_list(self, first: str) -> InputError:
        try:
            entry, _ = json.JSONDecoder().raw_decode(self._window, self._at)
            found = kind_of(entry)
        except (ValueError, RecursionError):
            found = f"{first!r}"
        hint = "a task file is a list: [ {...}, {...} ]"
        return self._error(f"expected a list of tasks, found {found}", self._at, hint=hint)


def _keys(entry: dict[str, Any]) -> str:
    names = ", ".join(f'"{clean_text(name, 30)}"' for name in list(entry)[:3])
    return f"the keys {names}" if len(entry) > 1 else f"the key {names}" if entry else "no keys"
