"""The worker's log: lines on standard error, as fast as one write each."""

from __future__ import annotations

import os
import time
from collections import deque

__all__ = ["Log"]


class Log:
    """Writes ``2025-07-08 11:19:22.944 INFO - text``; a closed or full standard error never stops the worker."""

    def __init__(self, *, verbose: bool, descriptor: int = 2) -> None:
        self.verbose = verbose
        """Whether `debug` says anything."""
        self._descriptor = descriptor
        self._second = 0
        self._prefix = ""
        self._held: deque[str] = deque()

    def debug(self, text: str) -> None:
        if self.verbose:
            self._write("DEBUG", text)

    def info(self, text: str) -> None:
        self._write("INFO", text)

    def hold(self, text: str, *, level: str = "INFO") -> None:
        """Say it with the next `flush`, or line, at the latest: for the thread that has many lines at a time."""
        self._held.append(self._line(level, text))

    def flush(self) -> None:
        """Write what was held."""
        lines = ""
        # Other threads flush, too, while this one adds.
        while self._held:
            try:
                lines += self._held.popleft()
            except IndexError:
                break
        if lines:
            self._put(lines)

    def warning(self, text: str) -> None:
        self._write("WARNING", text)

    def error(self, text: str) -> None:
        self._write("ERROR", text)

    def _write(self, level: str, text: str) -> None:
        self.flush()
        self._put(self._line(level, text))

    def _line(self, level: str, text: str) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d} {level} - {text}\n"

    def _put(self, lines: str) -> None:
        try:
            os.write(self._descriptor, lines.encode("utf-8", "replace"))
        except OSError:
            return
