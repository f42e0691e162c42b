"""Ctrl-C and its like while a job runs: ends the instances, leaves them running, or asks which.

Invariants, each with a test:

1. Who does not answer holds nothing up: a second Ctrl-C terminates, and the end of the run withdraws the question.
2. Signals change the job only on the loop's thread.
"""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import click
import structlog

from cloud_tasks.controller.loop import ThreadedLoop

__all__ = ["Interrupts", "ask_plainly"]

log = structlog.get_logger()

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUESTION = "\nInterrupted: [T]erminate all instances, [L]eave them running, or [C]arry on? "
_LOOK = 0.1
"""Seconds between two looks whether the question still stands."""


class Stoppable(Protocol):
    """What is interrupted: the controller."""

    def stop(self, *, leave: bool = False) -> None: ...


class Interrupts:
    """Receives the signals while it is entered.

    Args:
        policy: ``ask``, ``terminate`` or ``leave``. Only Ctrl-C asks, and only where somebody can answer.
        ask: Shows a question and waits for what the function that it is given reads.
    """

    def __init__(
        self,
        controller: Stoppable,
        loop: ThreadedLoop,
        policy: str,
        *,
        ask: Callable[[str, Callable[[], str]], str],
    ) -> None:
        self._controller = controller
        self._loop = loop
        self._policy = policy
        self._ask = ask
        self._asker: threading.Thread | None = None
        self._asking = False
        self._withdrawn = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._received) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Withdraw the question, if one stands; signals mean what they did before."""
        self._withdrawn.set()
        if self._asker is not None:
            self._asker.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, _: FrameType | None) -> None:
        self._loop.post(lambda: self._interrupted(number))

    def _interrupted(self, number: int) -> None:
        ask = self._policy == "ask" and number == signal.SIGINT and sys.stdin.isatty()
        if not ask or self._asking:
            self._withdrawn.set()
            self._decide("l" if self._policy == "leave" and not self._asking else "t")
            return
        self._asking = True
        # Not one of the loop's calls: the end of the loop waits for these.
        self._asker = threading.Thread(target=self._inquire, name="interrupted", daemon=True)
        self._asker.start()

    def _inquire(self) -> None:
        try:
            answer = self._ask(_QUESTION, self._read)
        except Exception:
            # Whoever could answer is gone, with the terminal.
            answer = "t"
        self._loop.post(lambda: self._answered(answer))

    def _read(self) -> str:
        """A line; nothing once the question was withdrawn."""
        while not self._withdrawn.is_set():
            if select.select([sys.stdin], [], [], _LOOK)[0]:
                # Nothing, not even an empty line, is the end of the terminal.
                return sys.stdin.readline() or "t"
        return ""

    def _answered(self, answer: str) -> None:
        self._asking = False
        if not self._withdrawn.is_set():
            self._decide(answer.strip().lower()[:1])

    def _decide(self, answer: str) -> None:
        if answer == "t":
            self._controller.stop()
            log.info("Interrupted: terminating all instances; `run --continue` goes on later")
        elif answer == "l":
            self._controller.stop(leave=True)
            log.info("Interrupted: leaving the instances running; `run --continue` comes back to them")
        else:
            log.info("Carrying on")


def ask_plainly(question: str, read: Callable[[], str]) -> str:
    """Ask where no view is shown."""
    click.echo(question, nl=False, err=True)
    return read()
