"""The supervisor: one loop over descriptors and a few timers; threads do what may block.

Invariants, each with a test:

1. A slot has at most one task, a task at most one slot; what was started is reported or released, whatever happens.
2. A task that exceeds its time gets SIGTERM, and after a moment SIGKILL, with its whole tree.
3. Shutdown takes nothing new, gives what runs the grace period, releases the rest at once, and flushes events.
4. While reports pile up, nothing new is started.
"""

from __future__ import annotations

import heapq
import itertools
import mmap
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from cloud_tasks.worker import linux
from cloud_tasks.worker.crew import Crew
from cloud_tasks.worker.endings import Endings
from cloud_tasks.worker.events import EventMaker
from cloud_tasks.worker.feed import Feed
from cloud_tasks.worker.log import Log
from cloud_tasks.worker.outcome import Outcome, read_outcome
from cloud_tasks.worker.report import Report, Reporter
from cloud_tasks.worker.shared import SharedFlags
from cloud_tasks.worker.template import ENDED, READY, STARTED
from cloud_tasks.worker.work import Running, Work

__all__ = ["Exit", "Supervisor", "SupervisorSettings"]

_MEMORY_INTERVAL = 0.2
"""Seconds between two looks at the memory of tasks, where it is limited."""
_MOST_BACKLOG = 20_000
_MOST_BACKLOG_BYTES = 64 * 1024 * 1024
_MOST_TEMPLATE_DEATHS = 20
"""Templates that may die one after the other without a task completed between."""


class Exit:
    """Exit codes."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    INTERRUPTED = 130
    TERMINATED = 143


@attrs.frozen(kw_only=True)
class SupervisorSettings:
    """Seconds throughout; None: no limit."""

    slots: int
    max_runtime: float
    grace: float
    term_to_kill: float
    """Between SIGTERM and SIGKILL at a time-out."""
    keepalive_interval: float
    idle_limit: float | None
    max_lifetime: float | None
    scratch_root: str
    log_tasks: bool
    """Whether each task is logged at INFO; else at DEBUG."""
    progress_interval: float = 0.0
    memory_gb: float | None = None
    """What the processes of one task may have resident."""
    max_result_bytes: int | None = None
    slot_environment: Callable[[int], dict[str, str]] = lambda slot: {}
    """Environment variables for the tasks of a slot."""


class Supervisor:
    """Runs what a feed brings. Everything here happens in one thread; others call `post`."""

    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        zygote: int,
        end: Any,
        feed: Callable[[Supervisor], Feed],
        reporter: Reporter,
        endings: Endings,
        events: EventMaker,
        flags: SharedFlags,
        log: Log,
    ) -> None:
        self._settings = settings
        self._reporter = reporter
        self._endings = endings
        self._events = events
        self._flags = flags
        self._log = log
        self._poll = select.poll()
        self._alarm_out, self._alarm_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._alarm_out, select.POLLIN)
        self._posted: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers = itertools.count()
        self._free = list(range(settings.slots))
        heapq.heapify(self._free)
        self._running: dict[int, Running] = {}
        self._ending: dict[int, Running] = {}
        self._ready = False
        self._accepting = True
        self._stop_reason = ""
        self._code = Exit.DONE
        self._signals = 0
        self._template_deaths = 0
        self._idle_since = time.monotonic()
        self._mean_seconds: float | None = None
        self._finished_before = 0
        self.finished = 0
        """Attempts that have ended."""
        self._crew = Crew(
            zygote,
            end,
            self._poll,
            max_result_bytes=settings.max_result_bytes,
            on_message=self._on_message,
            on_template_gone=self._on_template_gone,
            on_zygote_gone=lambda: log.warning("The zygote is gone: a template that dies cannot be replaced"),
        )
        self.feed = feed(self)

    # -- for other threads -----------------------------------------------------------------------------------------

    def post(self, action: Callable[[], None]) -> None:
        """Have an action done in the loop."""
        self._posted.append(action)
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._alarm_in, b"\0")
        except (BlockingIOError, OSError):
            return

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until it is over; returns the exit code."""
        previous = self._connect_signals()
        try:
            self._begin()
            while not self._is_over():
                self._turn()
        finally:
            self._disconnect_signals(previous)
        return self._code

    def close(self) -> None:
        """End all processes."""
        self._crew.close()
        os.close(self._alarm_out)
        os.close(self._alarm_in)

    def _begin(self) -> None:
        settings = self._settings
        self._crew.make_template()
        self.feed.start()
        self._report(self._events.make("worker_started", slots=settings.slots, pid=os.getpid()))
        if settings.keepalive_interval > 0:
            self._later(settings.keepalive_interval, self._keep_alive)
        if settings.progress_interval > 0:
            self._later(settings.progress_interval, self._log_progress)
        if settings.memory_gb is not None:
            self._later(_MEMORY_INTERVAL, self._watch_memory)
        if settings.max_lifetime is not None:
            lifetime = settings.max_lifetime
            self._later(lifetime, lambda: self.stop(f"its maximum lifetime of {lifetime:g} seconds is over"))
        if settings.idle_limit is not None:
            self._later(settings.idle_limit, self._check_idle)

    def _is_over(self) -> bool:
        if self._running or self._ending:
            return False
        return not self._accepting or self.feed.exhausted

    def _turn(self) -> None:
        self._fill()
        self._crew.flush()
        for descriptor, _ in self._poll.poll(self._patience()):
            if descriptor == self._alarm_out:
                os.read(self._alarm_out, 1 << 16)
            elif self._crew.owns(descriptor):
                self._crew.ready(descriptor)
        while self._posted:
            self._posted.popleft()()
        self._on_time()

    def _patience(self) -> float:
        """Milliseconds until something is due."""
        now = time.monotonic()
        due = now + 60.0
        if self._timers:
            due = min(due, self._timers[0][0])
        for first in self._running.values():
            due = min(due, first.started + self._settings.max_runtime)
            break
        for running in self._ending.values():
            if running.kill_at is not None:
                due = min(due, running.kill_at)
        held = self.feed.due_at
        if held is not None and self._free and self._accepting:
            due = min(due, now + max(0.0, held - time.time()))
        if self._free and self._is_clogged():
            due = min(due, now + 0.05)
        return max(0.0, (due - now) * 1000) + 0.5

    def _on_time(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        # All have the same limit, so the first that was started is the first to reach it.
        while self._running:
            first = next(iter(self._running.values()))
            if first.started + self._settings.max_runtime > now:
                break
            self._end(first, "timeout", self._settings.term_to_kill)
        for running in list(self._ending.values()):
            if running.kill_at is not None and running.kill_at <= now:
                running.kill_at = None
                self._crew.kill(running.number, signal.SIGKILL)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    # -- starting --------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        if not self._accepting or not self._ready or not self._crew.template_pid:
            return
        while self._free and not self._is_clogged():
            work = self.feed.get()
            if work is None:
                break
            self._start(work)
        self.feed.want(len(self._free), running=len(self._running), mean_seconds=self._mean_seconds)

    def _is_clogged(self) -> bool:
        backlog, size = self._reporter.backlog
        return backlog > _MOST_BACKLOG or size > _MOST_BACKLOG_BYTES

    def _start(self, work: Work) -> None:
        number = next(self._numbers)
        slot = heapq.heappop(self._free)
        running = Running(work, number, slot, f"{self._settings.scratch_root}/{number}")
        self._running[number] = running
        environment = self._settings.slot_environment(slot)
        self._crew.run(number, slot, work.task_id, work.attempt, work.payload, running.scratch, environment)

    def _on_message(self, message: Any) -> None:
        kind = message[0]
        if kind == ENDED:
            self._on_ended(*message[1:])
        elif kind == STARTED:
            self._on_started(*message[1:])
        elif kind == READY:
            if message[1]:
                self._log.error(f"worker_init failed:\n{message[1]}")
                self.fail("worker_init failed", message[1])
            self._ready = not message[1]

    def _on_started(self, number: int, pid: int, when: float) -> None:
        running = self._running.get(number) or self._ending.get(number)
        if running is None:
            return
        running.pid = pid
        running.started = when
        work = running.work
        self._report(
            self._events.make("task_started", task_id=work.task_id, attempt=work.attempt, slot=running.slot, pid=pid)
        )
        self._log_task(f"Started single-task worker #{number} (PID {pid})")
        self._log_task(f"Worker #{number}: Started, processing task {work.task_id}")

    # -- ending ----------------------------------------------------------------------------------------------------

    def _end(self, running: Running, cause: str, kill_after: float) -> None:
        """Tell a task to end; a second time only makes it sooner."""
        self._running.pop(running.number, None)
        kill_at = time.monotonic() + kill_after
        if running.number not in self._ending:
            self._ending[running.number] = running
            running.cause = cause
            self._crew.kill(running.number, signal.SIGTERM if kill_after > 0 else signal.SIGKILL)
            running.kill_at = kill_at
        elif running.kill_at is not None:
            running.kill_at = min(running.kill_at, kill_at)

    def _on_ended(
        self, number: int, status: int, when: float, content: bytes | None, tail: bytes
    ) -> None:
        content = _read_all(self._crew.take_result()) if content is None else content
        running = self._running.pop(number, None) or self._ending.pop(number, None)
        if running is None:
            return
        elapsed = max(0.0, when - running.started)
        outcome = read_outcome(
            status=status,
            content=content,
            cause=running.cause,
            tail=tail,
            limit=self._settings.memory_gb if running.cause == "memory" else self._settings.max_runtime,
            memory=running.memory_gb,
        )
        self._conclude(running, outcome, elapsed)
        self.finished += 1
        mean = self._mean_seconds
        self._mean_seconds = elapsed if mean is None else mean * 0.9 + elapsed * 0.1
        if outcome.kind in ("completed", "retry", "exception"):
            self._template_deaths = 0

    def _conclude(self, running: Running, outcome: Outcome, elapsed: float) -> None:
        heapq.heappush(self._free, running.slot)
        if os.path.lexists(running.scratch):
            self._endings.remove_scratch(running.scratch)
        if len(self._free) == self._settings.slots:
            self._idle_since = time.monotonic()
        verdict = self._endings.judge(running.work, outcome, elapsed, stopping=not self._accepting)
        if verdict.again is not None and not self.feed.again(verdict.again, verdict.delay):
            raise AssertionError("a feed that keeps nothing needs messages")
        self._reporter.put(verdict.report)
        if self._settings.log_tasks or self._log.verbose:
            for line in verdict.lines(running.number, elapsed):
                self._log_task(line)

    def _on_template_gone(self, status: int) -> None:
        self._ready = False
        lost = [*self._running.values(), *self._ending.values()]
        self._running.clear()
        self._ending.clear()
        self._template_deaths += 1
        self._log.warning(f"The template of the task processes died (status {status}); {len(lost)} tasks were lost")
        for running in lost:
            self._conclude(
                running,
                Outcome(kind="lost", details={"cause": "the template of its process died"}),
                time.monotonic() - running.started,
            )
        if not self._accepting:
            return
        if not self._crew.can_make_templates:
            self.fail("template and zygote were killed: no task can be started any more", "")
        elif self._template_deaths > _MOST_TEMPLATE_DEATHS:
            self.fail("the template of the task processes dies again and again", "")
        else:
            self._report(self._events.make("non_fatal_exception", exception="the template of the task processes died"))
            self._crew.make_template()

    def _log_progress(self) -> None:
        """Say how fast it goes, and, where the number of tasks is known, how long it will take."""
        self._later(self._settings.progress_interval, self._log_progress)
        done, before = self.finished, self._finished_before
        self._finished_before = done
        if done == before and not self._running:
            return
        rate = (done - before) / self._settings.progress_interval
        text = f"{done} tasks attempted, {len(self._running)} running, {rate:.1f} per second"
        expected = self.feed.expected
        if expected is not None and rate > 0:
            left = max(0, expected - done)
            text += f"; {left} to go, about {_duration(left / rate)}"
        self._log.info(text)

    def _watch_memory(self) -> None:
        """Kill tasks whose processes have too much. The sum of what is resident, so memory they share counts often."""
        limit = self._settings.memory_gb
        assert limit is not None
        resident = linux.resident_bytes([running.pid for running in self._running.values() if running.pid])
        for running in list(self._running.values()):
            running.memory_gb = resident.get(running.pid, 0) / 1e9
            if running.memory_gb > limit:
                self._end(running, "memory", 0.0)
        self._later(_MEMORY_INTERVAL, self._watch_memory)

    # -- shutting down ---------------------------------------------------------------------------------------------

    def stop(self, reason: str, *, grace: float | None = None, code: int | None = None) -> None:
        """Take nothing new, give running tasks ``grace`` seconds (None: the grace period), release the rest."""
        if code is not None and self._code == Exit.DONE:
            self._code = code
        grace = self._settings.grace if grace is None else grace
        if self._accepting:
            self._accepting = False
            self._stop_reason = reason
            self._flags.set_shutdown_request()
            self._log.info(f"Shutting down: {reason}")
            if self._running:
                self._log.info(f"Waiting up to {grace:g} seconds for {len(self._running)} running tasks")
            self._endings.release_unstarted(self.feed.stop())
        if grace > 0:
            self._later(grace, lambda: self._end_all("shutdown"))
        else:
            self._end_all("shutdown")

    def fail(self, reason: str, trace: str) -> None:
        """Something essential failed: report it and end with an error."""
        self._log.error(f"Fatal: {reason}")
        self._report(self._events.make("fatal_exception", exception=reason, stack_trace=trace))
        self.stop(reason, grace=0.0, code=Exit.FAILED)

    def _end_all(self, cause: str) -> None:
        for running in [*self._running.values(), *self._ending.values()]:
            self._end(running, cause, 0.0)

    def on_notice(self, reason: str, left: float | None) -> None:
        """The machine will be taken away; ``left``: seconds from now at which unfinished tasks are released."""
        self._log.warning(f"Termination notice: {reason}")
        self._report(self._events.make("spot_termination", reason=reason))
        grace = self._settings.grace if left is None else min(left, self._settings.grace)
        self.stop("this machine will be taken away", grace=max(0.0, grace))

    def lost_leases(self, lease_ids: Sequence[str]) -> None:
        """These leases have ended early; what runs goes on, and its result is reported all the same."""
        gone = set(lease_ids)
        for running in (*self._running.values(), *self._ending.values()):
            if running.work.lease_id in gone:
                running.work.lease_lost = True
        self.feed.lost(lease_ids)

    @property
    def stop_reason(self) -> str:
        return self._stop_reason

    # -- events and signals ----------------------------------------------------------------------------------------

    def _report(self, event: bytes) -> None:
        self._reporter.put(Report((event,)))

    def _log_task(self, text: str) -> None:
        if self._settings.log_tasks:
            self._log.info(text)
        else:
            self._log.debug(text)

    def _keep_alive(self) -> None:
        self._report(
            self._events.make(
                "keep_alive",
                running_tasks=len(self._running) + len(self._ending),
                slots=self._settings.slots,
                load=os.getloadavg()[0],
                finished=self.finished,
            )
        )
        self._later(self._settings.keepalive_interval, self._keep_alive)

    def _check_idle(self) -> None:
        limit = self._settings.idle_limit
        if limit is None or not self._accepting:
            return
        busy = len(self._free) < self._settings.slots or self._is_clogged() or self._reporter.problem
        idle = 0.0 if busy else time.monotonic() - self._idle_since
        if idle >= limit:
            self.stop(f"there was no task for {limit:g} seconds")
        else:
            self._later(max(0.05, limit - idle), self._check_idle)

    def _connect_signals(self) -> tuple[Any, ...]:
        wakeup = signal.set_wakeup_fd(self._alarm_in, warn_on_full_buffer=False)
        handlers = tuple(signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM))
        return (wakeup, *handlers)

    def _disconnect_signals(self, previous: tuple[Any, ...]) -> None:
        signal.set_wakeup_fd(previous[0])
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), previous[1:], strict=True):
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signals += 1
        code = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        name = signal.Signals(number).name
        if self._signals == 1:
            self._posted.append(lambda: self.stop(f"{name} was received", code=code))
        else:
            self._posted.append(lambda: self.stop(f"{name} was received again", grace=0.0, code=code))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s" if minutes else f"{rest}s"


def _read_all(descriptor: int) -> bytes:
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return b""
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as content:
            return content[:]
    finally:
        os.close(descriptor)
