"""Signals during ``run``: terminate the instances, leave them running, ask which, or continue without a terminal.

Invariants, each with a test:

1. An unanswered prompt never blocks the run: a second signal terminates, and the end of the run cancels the prompt.
2. Signals change the job only on the loop's thread, and a line is logged for what was done there.
3. The first signal during the end of the run shows how many instances are left; the second exits at once, with their
   ids. A signal that terminates still terminates what an earlier answer would have left running.
4. SIGHUP, which a closed terminal sends, changes nothing unless the user chose what an interrupt does: the run
   continues, and logs to a file.
5. Before the controller exists, a signal interrupts the setup as `KeyboardInterrupt`, whichever it is.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import structlog

from cloud_tasks import exit_codes
from cloud_tasks.cli.output import echo
from cloud_tasks.cli.ui.confirmation import is_interactive
from cloud_tasks.cli.ui.hangup import leave_terminal
from cloud_tasks.controller import StopMode
from cloud_tasks.model import JobPhase
from cloud_tasks.quantities import counted

__all__ = ["Interrupts", "ask_plainly"]

log = structlog.get_logger()

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUESTION = "\nInterrupted: [T]erminate all instances, [L]eave them running, or [C]ontinue? "
_POLL = 0.1
"""Seconds between two checks whether the prompt is still valid."""
_SIGNAL_DELAY = 0.5
"""Maximum time from the end of a terminal to its signal, in seconds."""
_DONE = {
    StopMode.TERMINATE: "Interrupted: terminating all instances",
    StopMode.LEAVE: "Interrupted: leaving the instances running",
}


class Stoppable(Protocol):
    """The interrupted job: `cloud_tasks.controller.job.Job`."""

    @property
    def is_running(self) -> bool: ...

    @property
    def ending(self) -> JobPhase | None: ...

    def stop(self, mode: StopMode, *, then: Callable[[bool], None]) -> None: ...

    def instances_left(self) -> tuple[str, ...]: ...


class Interrupts:
    """Signal handling while entered; signals are handled one at a time, in a separate thread.

    Args:
        policy: ``ask``, ``terminate`` or ``leave``. Only Ctrl-C on a terminal asks.
        log_file: Log of the run once its terminal is closed.
        ask: Show a prompt and return the line that the given function reads.
        restore: Restore the terminal before this process exits at once.
        resume: Command that continues the job.
        stop: Command that terminates its instances.
    """

    def __init__(
        self,
        job: Stoppable,
        policy: str,
        *,
        ask: Callable[[str, Callable[[], str]], str],
        log_file: Path,
        restore: Callable[[], None] = lambda: None,
        resume: str = "cloud-tasks run --continue",
        stop: str = "cloud-tasks stop",
    ) -> None:
        self._job = job
        self._policy = policy
        self._ask = ask
        self._log_file = log_file
        self._restore = restore
        self._resume_command = resume
        self._stop_command = stop
        # SimpleQueue.put is reentrant: safe in a signal handler that interrupts another put.
        self._received: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._handler = threading.Thread(target=self._handle_all, name="interrupts", daemon=True)
        self._notified_of: JobPhase | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        self._handler.start()
        # Under nohup, SIGHUP is ignored.
        handled = [n for n in _SIGNALS if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._receive) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel the prompt, if there is one, and restore the handlers."""
        self._closing.set()
        self._received.put(None)
        self._handler.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if not self._job.is_running:
            raise KeyboardInterrupt
        self._received.put(number)

    def _handle_all(self) -> None:
        while (number := self._received.get()) is not None:
            try:
                if self._is_hangup(number):
                    self._leave_terminal()
                    continue
                if number == signal.SIGHUP:
                    # The end of the run is reported to a file; on a closed terminal it would fail.
                    self._restore()
                    leave_terminal(self._log_file, only_closed=True)
                self._handle(self._mode_of(number))
            except Exception as error:
                # The next signal is handled again; without this thread, none would be.
                log.warning(f"The interrupt could not be handled: {type(error).__name__}: {error}; press Ctrl-C again")

    def _handle(self, mode: StopMode | None) -> None:
        """Stop the job in the given mode; None: ask the user."""
        ending = self._job.ending
        if ending is not None and not (ending is JobPhase.LEFT and mode is StopMode.TERMINATE):
            self._notify_or_exit(ending)
        elif mode is not None:
            self._stop(mode)
        else:
            self._ask_and_stop()

    def _is_hangup(self, number: int) -> bool:
        """Return whether a signal only means that the terminal is gone."""
        return number == signal.SIGHUP and self._policy == "ask"

    def _leave_terminal(self) -> None:
        self._restore()
        if leave_terminal(self._log_file):
            log.info("The terminal was closed; the run continues, and logs to this file")

    def _mode_of(self, number: int) -> StopMode | None:
        """Return the stop mode for a signal; None where the user has to choose."""
        if self._policy == "leave":
            return StopMode.LEAVE
        asks = self._policy == "ask" and number == signal.SIGINT and is_interactive()
        return None if asks else StopMode.TERMINATE

    def _stop(self, mode: StopMode) -> None:
        def done(stopped: bool) -> None:
            ending = self._job.ending
            if stopped:
                log.info(f"{_DONE[mode]}; resume the job with `{self._resume_command}`")
            elif ending is not None:
                self._notify_or_exit(ending)

        self._job.stop(mode, then=done)

    def _notify_or_exit(self, ending: JobPhase) -> None:
        left = self._job.instances_left()
        count = counted(len(left), "instance")
        state = "left running" if ending is JobPhase.LEFT else "left to terminate"
        if self._notified_of is not ending:
            self._notified_of = ending
            log.info(f"The run is ending, {count} {state}; interrupt again to exit at once")
            return
        self._restore()
        remedy = f": {', '.join(left)}; terminate with `{self._stop_command}`" if left else ""
        log.warning(f"Exiting at once, {count} {state}{remedy}")
        os._exit(exit_codes.INTERRUPTED)

    # -- the prompt ------------------------------------------------------------------------------------------------

    def _ask_and_stop(self) -> None:
        try:
            answer = self._ask(_QUESTION, self._read).strip().lower()[:1]
        except Exception:
            # The prompt cannot be answered.
            answer = "t"
        if not self._received.empty():
            self._take_second_signal()
        elif self._is_cancelled():
            log.info("The run is ending; the prompt was cancelled")
        elif answer == "t":
            self._stop(StopMode.TERMINATE)
        elif answer == "l":
            self._stop(StopMode.LEAVE)
        else:
            log.info("The run continues")

    def _take_second_signal(self) -> None:
        """Take a second signal as the answer; the end marker of the queue stays in it."""
        number = self._received.get()
        if number is None:
            self._received.put(None)
        elif self._is_hangup(number):
            self._leave_terminal()
        else:
            self._handle(StopMode.TERMINATE)

    def _is_cancelled(self) -> bool:
        return self._closing.is_set() or self._job.ending is not None

    def _read(self) -> str:
        """Return a line; an empty one after a second signal, or when the prompt was cancelled."""
        while not self._is_cancelled() and self._received.empty():
            if select.select([sys.stdin], [], [], _POLL)[0]:
                # An empty read, without a newline, is Ctrl-D, or the end of the terminal, of which a signal follows.
                return sys.stdin.readline() or ("" if self._is_hung_up() else "t")
        return ""

    def _is_hung_up(self) -> bool:
        """Return whether a signal arrives soon."""
        deadline = time.monotonic() + _SIGNAL_DELAY
        while self._received.empty() and time.monotonic() < deadline:
            time.sleep(_POLL)
        return not self._received.empty()


def ask_plainly(question: str, read: Callable[[], str]) -> str:
    """Prompt without a live view."""
    echo(question, nl=False, err=True)
    return read()
