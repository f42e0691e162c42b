"""ministack's SQS by a clock that a test can put forward, so that nobody has to wait for the end of a lease.

As a program: serves as ``ministack`` does; each line of standard input is a number of seconds, by which the clock is
put forward before a line is answered. A test uses `ClockedSqs`.
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
    """SQS whose time the test makes pass.

    Args:
        url: Where it is.
        orders: The standard input of the program.
        answers: Its standard output.
    """

    def __init__(self, url: str, orders: IO[str], answers: IO[str]) -> None:
        self.url = url
        self._orders = orders
        self._answers = answers
        self._ahead = 0.0

    def advance(self, duration: timedelta) -> None:
        """Let time pass, for the service and for whoever goes by `now`."""
        self._orders.write(f"{duration.total_seconds()}\n")
        self._orders.flush()
        assert self._answers.readline(), "the SQS emulator has ended"
        self._ahead += duration.total_seconds()

    def now(self) -> float:
        """Seconds that never go back."""
        return time.monotonic() + self._ahead


class _Time:
    """What the emulator takes for the module ``time``."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def main() -> None:
    clock = _Time()
    # Its own name for the module; the emulator has no other way to be told the time.
    vars(importlib.import_module("ministack.services.sqs"))["time"] = clock

    def listen() -> None:
        for line in sys.stdin:
            clock.ahead += float(line)
            sys.__stdout__.write("done\n")  # type: ignore[union-attr] # it is a pipe
            sys.__stdout__.flush()  # type: ignore[union-attr]

    threading.Thread(target=listen, daemon=True).start()
    # What the emulator has to say is for its log.
    sys.stdout = sys.stderr
    sys.argv = sys.argv[:1]
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
