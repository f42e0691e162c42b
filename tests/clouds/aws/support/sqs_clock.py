"""ministack's SQS with a clock that tests can advance, so that they need not wait for the end of a lease.

As a program: serves like ``ministack``; each line of standard input is a number of seconds by which the clock is
advanced before a line is written back. Tests use `ClockedSqs`.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from datetime import timedelta
from typing import IO, Any

__all__ = ["ClockedSqs"]


class ClockedSqs:
    """SQS with a clock that the test advances.

    Args:
        url: Its URL.
        orders: Standard input of the program.
        answers: Standard output of the program.
    """

    def __init__(self, url: str, orders: IO[str], answers: IO[str]) -> None:
        self.url = url
        self._orders = orders
        self._answers = answers
        self._ahead = 0.0

    def advance(self, duration: timedelta) -> None:
        """Advance the clock of the service and of `now`."""
        self._orders.write(f"{duration.total_seconds()}\n")
        self._orders.flush()
        assert self._answers.readline(), "the SQS emulator has ended"
        self._ahead += duration.total_seconds()

    def now(self) -> float:
        """Return monotonic time in seconds."""
        return time.monotonic() + self._ahead


class _Time:
    """Replacement of the module ``time`` in the emulator."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def main() -> None:
    clock = _Time()
    # The emulator's clock can only be replaced through its module attribute.
    vars(importlib.import_module("ministack.services.sqs"))["time"] = clock

    def listen() -> None:
        for line in sys.stdin:
            clock.ahead += float(line)
            sys.__stdout__.write("done\n")  # type: ignore[union-attr] # a pipe
            sys.__stdout__.flush()  # type: ignore[union-attr]

    threading.Thread(target=listen, daemon=True).start()
    # The emulator's output belongs in its log.
    sys.stdout = sys.stderr
    sys.argv = sys.argv[:1]
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
