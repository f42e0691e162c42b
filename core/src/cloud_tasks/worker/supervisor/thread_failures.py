"""Failures of the worker's own threads: receive, leases, reports, logs, event sinks, notices, scratch folders.

Each of them catches what a single message, sink or answer can raise. What it does not catch ends its thread, and a
worker without that thread would hold its leases and do nothing.

Invariant, with a test for each thread: no thread of the worker ends by an exception unnoticed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["THREAD_PREFIX", "handle_thread_failures"]

THREAD_PREFIX = "worker-"
"""Start of the names of the worker's threads; those of plugins and of the user's program have other names."""


@contextmanager
def handle_thread_failures(on_failure: Callable[[str, str], None]) -> Iterator[None]:
    """Call ``on_failure`` with reason and traceback if a thread of the worker ends by an exception.

    It is called from that thread. Other threads are left to the former hook.
    """
    former = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        name = "" if failure.thread is None else failure.thread.name
        if not name.startswith(THREAD_PREFIX):
            former(failure)
            return
        # Imported here: with the modules that it loads, it delays the first task.
        import traceback

        kind, error = failure.exc_type, failure.exc_value
        trace = "".join(traceback.format_exception(kind, error, failure.exc_traceback))
        on_failure(f"the thread {name} failed: {kind.__name__}: {error}", trace)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = former
