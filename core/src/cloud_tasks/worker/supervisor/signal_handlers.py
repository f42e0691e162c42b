"""SIGINT and SIGTERM of the supervisor: the first shuts down, the next ends running tasks at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from cloud_tasks import exit_codes
from cloud_tasks.worker.supervisor.event_loop import EventLoop

__all__ = ["handle_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Stop(Protocol):
    def __call__(self, reason: str, *, grace: float | None = None, code: int | None = None) -> None: ...


@contextmanager
def handle_signals(loop: EventLoop, stop: _Stop) -> Iterator[None]:
    """Call ``stop`` in the loop for each signal until the context ends; then restore the former handlers."""
    received = 0

    def on_signal(number: int, frame: Any) -> None:
        nonlocal received
        received += 1
        code = exit_codes.INTERRUPTED if number == signal.SIGINT else exit_codes.TERMINATED
        name = signal.Signals(number).name
        if received == 1:
            loop.post_from_signal(lambda: stop(f"{name} was received", code=code))
        else:
            loop.post_from_signal(lambda: stop(f"{name} was received again", grace=0.0, code=code))

    wakeup = signal.set_wakeup_fd(loop.wake_descriptor, warn_on_full_buffer=False)
    former = [signal.signal(number, on_signal) for number in _SIGNALS]
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(_SIGNALS, former, strict=True):
            signal.signal(number, handler)
