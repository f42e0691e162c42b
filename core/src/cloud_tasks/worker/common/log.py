"""Log of the worker: lines on standard error. Faster than `logging`, with one system call for many lines."""

from __future__ import annotations

import os
import time
from collections import deque

from cloud_tasks.escape import terminal_line, terminal_text

__all__ = ["Log"]


class Log:
    """Lines such as ``2025-07-08 11:19:22.944 INFO - text``. Errors while writing are ignored. Thread-safe.

    Text from outside adds no line and no control character.
    """

    def __init__(self, *, verbose: bool, descriptor: int = 2) -> None:
        self.verbose = verbose
        """Whether `debug` writes lines."""
        self._descriptor = descriptor
        self._second = 0
        self._prefix = ""
        self._buffer: deque[str] = deque()

    def debug(self, text: str) -> None:
        """Write a line if the log is verbose."""
        if self.verbose:
            self.write("DEBUG", text)

    def info(self, text: str) -> None:
        """Write a line."""
        self.write("INFO", text)

    def hold(self, text: str, *, level: str = "INFO") -> None:
        """Buffer a line until the next `flush` or unbuffered line."""
        self._buffer.append(self._line(level, text))

    def flush(self) -> None:
        """Write the buffered lines."""
        lines = ""
        # Several threads may flush at the same time.
        while self._buffer:
            try:
                lines += self._buffer.popleft()
            except IndexError:
                break
        if lines:
            self._emit(lines)

    def warning(self, text: str) -> None:
        """Write a line at WARNING."""
        self.write("WARNING", text)

    def error(self, text: str, *, block: str = "") -> None:
        """Write a line at ERROR, and the lines of ``block``, such as a traceback, below it."""
        self.write("ERROR", text, block=block)

    def write(self, level: str, text: str, *, block: str = "") -> None:
        """Write a line at any level, and the lines of ``block`` below it."""
        self.flush()
        below = terminal_text(block).rstrip("\n")
        self._emit(self._line(level, text) + (f"{below}\n" if below else ""))

    def _line(self, level: str, text: str) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d} {level} - {terminal_line(text)}\n"

    def _emit(self, lines: str) -> None:
        try:
            os.write(self._descriptor, lines.encode("utf-8", "replace"))
        except OSError:
            return
