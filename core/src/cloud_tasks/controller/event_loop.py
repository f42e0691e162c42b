"""The event loop of the controller: one thread owns all state, other threads make the blocking calls.

Invariants, each with a test:

1. Every callback (result, timer, post) runs on the loop's own thread, one at a time, so the controller and its store
   need no lock. The simulated cloud has another loop with the same interface and a virtual clock.
2. Time passes evenly, whatever is done to the machine's clock (`JobClock`).
3. A call that never returns does not keep the process from ending.
4. A coroutine (`start`) runs in callbacks of the loop, and pauses only at `call`, `sleep` and `Pause`.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from cloud_tasks.store import JobClock

__all__ = ["Loop", "Pause", "ThreadedLoop", "call", "gather", "sleep", "start"]

_T = TypeVar("_T")

_CLOSE_TIMEOUT = 30.0
"""Seconds for which the end of the process waits for calls without an answer."""


class Loop(Protocol):
    """Time, timers and blocking calls. All methods but `post` are called on the loop's thread."""

    def now(self) -> datetime:
        """Return the time in UTC."""

    def call(self, work: Callable[[], _T], then: Callable[[_T], None], failed: Callable[[Exception], None]) -> None:
        """Run ``work`` in another thread; ``then`` or ``failed`` runs on the loop when it returned or raised."""

    def later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the loop after ``delay``."""

    def post(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the loop soon. May be called from any thread and from a signal handler."""

    def run(self, done: Callable[[], bool]) -> None:
        """Run callbacks until ``done()`` is true; an exception of a callback ends the loop and is raised here."""


class Pause(Generic[_T]):
    """Awaitable result of an operation that ends in a callback.

    Args:
        begin: Starts the operation; its arguments are the callbacks for the result and for an error.
    """

    def __init__(self, begin: Callable[[Callable[[_T], None], Callable[[Exception], None]], None]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, _T]:
        result: _T = yield self._begin
        return result


def call(loop: Loop, work: Callable[[], _T]) -> Pause[_T]:
    """Return an awaitable of ``work``, run in another thread; it raises what ``work`` raises."""
    return Pause(lambda then, failed: loop.call(work, then, failed))


def sleep(loop: Loop, delay: timedelta) -> Pause[None]:
    """Return an awaitable that ends after ``delay``."""
    return Pause(lambda then, failed: loop.later(delay, lambda: then(None)))


def start(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine up to its first pause; callbacks of the loop run the rest."""

    def step(resume: Callable[[], Any]) -> None:
        try:
            begin = resume()
        except StopIteration:
            return
        begin(
            lambda result: step(lambda: coroutine.send(result)),
            lambda error: step(lambda: coroutine.throw(error)),
        )

    step(lambda: coroutine.send(None))


def gather(coroutines: Sequence[Coroutine[Any, Any, _T]]) -> Pause[list[_T]]:
    """Return an awaitable of the results of coroutines that run together: at least one, and none may raise.

    An error of the loop itself, which its caller gets, closes those that have not begun.
    """
    results: dict[int, _T] = {}

    def begin(then: Callable[[list[_T]], None], _: Callable[[Exception], None]) -> None:
        async def run(number: int, coroutine: Coroutine[Any, Any, _T]) -> None:
            results[number] = await coroutine
            if len(results) == len(coroutines):
                then([results[each] for each in range(len(coroutines))])

        waiting = deque(enumerate(coroutines))
        try:
            while waiting:
                start(run(*waiting.popleft()))
        finally:
            for _number, coroutine in waiting:
                coroutine.close()

    return Pause(begin)


class _Threads:
    """Pool of threads that never keep the process from ending, unlike those of `concurrent.futures`."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a thread. Raises `RuntimeError` if no thread can be started and none exists."""
        self._work.put(work)
        if self._idle.acquire(blocking=False) or len(self._threads) >= self._maximum:
            return
        thread = threading.Thread(target=self._run, name=f"controller-io-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            # The threads that exist make the call.
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._idle.release()

    def close(self, timeout: float) -> None:
        """Drop waiting calls, and wait for running ones; those that take longer end with the process."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._work.get_nowait()
        for _ in self._threads:
            self._work.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class ThreadedLoop:
    """Event loop with a pool of threads.

    Args:
        threads: Maximum number of blocking calls at a time; fewer where no more threads can be started.
        clock: Clock of the job; None: one that starts with the time of the machine.

    Raises:
        RuntimeError: No thread can be started.
    """

    def __init__(self, *, threads: int, clock: JobClock | None = None) -> None:
        self.now = (clock or JobClock()).now
        """Returns the time in UTC."""
        self._threads = _Threads(threads)
        # With one thread every call is made, however few others can be started later.
        self._threads.submit(lambda: None)
        # SimpleQueue.put is reentrant: safe in a signal handler that interrupts a get.
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[tuple[datetime, int, Callable[[], None]]] = []
        self._sequence = itertools.count()

    def call(self, work: Callable[[], _T], then: Callable[[_T], None], failed: Callable[[Exception], None]) -> None:
        def run() -> None:
            try:
                result = work()
            except Exception as error:
                # Bound now: the name is deleted when the except clause ends.
                self.post(lambda error=error: failed(error))  # type: ignore[misc]
            except BaseException as error:
                self.post(functools.partial(_raise, error))
            else:
                self.post(lambda: then(result))

        self._threads.submit(run)

    def later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now() + delay, next(self._sequence), callback))

    def post(self, callback: Callable[[], None]) -> None:
        self._posted.put(callback)

    def run(self, done: Callable[[], bool]) -> None:
        while not done():
            now = self.now()
            if self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
                continue
            wait = (self._timers[0][0] - now).total_seconds() if self._timers else 3600.0
            try:
                callback = self._posted.get(timeout=max(wait, 0.0))
            except queue.Empty:
                continue
            callback()

    def close(self) -> None:
        """Wait for running calls, for half a minute at most; their results are dropped."""
        self._threads.close(_CLOSE_TIMEOUT)


def _raise(error: BaseException) -> None:
    """Raise an error that no callback handles, such as ``SystemExit`` in a client library; it ends the loop."""
    raise error
