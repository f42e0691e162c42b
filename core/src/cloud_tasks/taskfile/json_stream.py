"""A stream of tasks from a JSON list, decoded one at a time in a sliding window.

The decoder of the standard library reads every number as Python does (integers of any size, NaN), unlike streaming
parsers with C number types, and returns the position of an error. Memory: the window, which grows to hold the largest
task.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from cloud_tasks.errors import InputError
from cloud_tasks.taskfile.entry import fields_of_entry, kind_of

__all__ = ["JsonList"]

_CHUNK_BYTES = 1 << 16
_LOOKAHEAD = 16
"""Characters before the end of the window in which an error may be a literal, number or escape that is cut off."""

_SPACE = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")


class JsonList:
    """One pass over a JSON list of tasks.

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
        self._number = 0

    def fields(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield id and data of each task."""
        first = self._next_character()
        if first == "":
            return
        if first != "[":
            raise self._not_a_list(first)
        self._at += 1
        if self._next_character() == "]":
            self._at += 1
        else:
            yield from self._entries()
        rest = self._next_character()
        if rest:
            raise self._error("unexpected content after the end of the list", self._at)

    def _entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        scan = json.JSONDecoder().raw_decode
        to_next = _COMMA.match
        where = self._here
        self._number = 1
        while True:
            # Only the methods on the slow paths below change the window.
            window = self._window
            try:
                entry, end = scan(window, self._at)
            except json.JSONDecodeError as error:
                self._widen(error)
                continue
            except RecursionError as error:
                raise InputError(f"task {self._number}: nested too deeply", where=self._here()) from error
            if type(entry) is not dict and end == len(window) and not self._ended:
                # A number may continue beyond the window.
                self._read()
                continue
            yield fields_of_entry(entry, self._number, where)
            match = to_next(window, end)
            if match is not None and match.end() < len(window):
                self._at = match.end()
            elif not self._has_next(end):
                return
            self._number += 1

    def _has_next(self, end: int) -> bool:
        """Move from the end of a task to the start of the next; return False at the end of the list."""
        self._at = end
        separator = self._next_character()
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
            raise InputError(f"not UTF-8 text ({error.reason})", where=f"{self._where}:{line}") from error
        self._window = self._window[self._at :] + text
        self._at = 0

    def _here(self) -> str:
        return self._place(self._at)

    def _place(self, position: int) -> str:
        return f"{self._where}:{self._lines_before + 1 + self._window.count(chr(10), 0, position)}"

    def _error(self, reason: str, position: int, *, hint: str = "") -> InputError:
        return InputError(reason, where=self._place(position), hint=hint)

    def _cut_short(self) -> InputError:
        return self._error(
            f"the file ends in the middle of the list, at task {self._number}",
            len(self._window),
            hint="the file may be truncated; create it again",
        )

    def _not_a_list(self, first: str) -> InputError:
        try:
            entry, _ = json.JSONDecoder().raw_decode(self._window, self._at)
            found = kind_of(entry)
        except json.JSONDecodeError:
            found = "an object" if first == "{" else f"{first!r}"
        lines = "if each line is a task, name the file *.jsonl"
        hint = lines if first == "{" else "a task file is a list: [ {...}, {...} ]"
        return self._error(f"expected a list of tasks, found {found}", self._at, hint=hint)
