"""The live view of a job on a terminal: everything it shows is read from the job's database, beside its controller.

Invariants, each with a test:

1. It changes nothing, and whatever goes wrong in it ends the view, never the job.
2. Log lines appear above it, whole; what is asked is asked below it, while it stands still.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import attrs
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.model import InstanceState, Money, TaskStatus
from cloud_tasks.report import Throughput, format_duration, throughput
from cloud_tasks.report.text.summary import status_counts
from cloud_tasks.store import InstanceRecord, JobSummary, Store
from cloud_tasks.store.queries.recent_failures import LatestFailure, RecentFailures

__all__ = ["LiveView", "Snapshot", "render_snapshot"]

_EVERY = 1.0
"""Seconds between two looks at the database."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """A job at one moment, as the view shows it."""

    now: datetime
    summary: JobSummary
    pace: Throughput | None
    instances: Sequence[InstanceRecord]
    cost: Money
    failures: Sequence[LatestFailure]


class LiveView:
    """Shows a job from `start` to `stop`; a context manager.

    Args:
        database: The job's, which has to be there at `start`.
        console: Where to show it; standard error by default.
        clock: The time, UTC.
    """

    def __init__(
        self,
        database: Path,
        *,
        console: Console | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._clock = clock
        self._console = console or Console(stderr=True)
        self._failures = RecentFailures(database)
        self._live: Live | None = None
        self._ended = threading.Event()
        self._still = threading.Lock()
        self._looker: threading.Thread | None = None

    def start(self) -> None:
        """Show it, and go on showing it; nothing on a terminal where only lines can be written."""
        if self._console.is_dumb_terminal:
            return
        try:
            first = render_snapshot(self._look())
            # Standard error is put in the view's care, so that log lines come above it.
            live = Live(first, console=self._console, auto_refresh=False, redirect_stdout=False, transient=True)
            live.start(refresh=True)
        except (CloudTasksError, OSError):
            return
        self._live = live
        self._looker = threading.Thread(target=self._go_on, name="live-view", daemon=True)
        self._looker.start()

    def stop(self) -> None:
        """Take the view away; does nothing the second time."""
        self._ended.set()
        if self._looker is not None:
            self._looker.join()
        self._take_away()

    def _take_away(self) -> None:
        with self._still:
            live, self._live = self._live, None
            if live is not None:
                # The terminal may be gone.
                with contextlib.suppress(OSError):
                    live.stop()

    def __enter__(self) -> LiveView:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_shown(self) -> bool:
        return self._live is not None

    def ask(self, question: str, read: Callable[[], str]) -> str:
        """Take the view away, ask, wait for what ``read`` gives, show the view again."""
        with self._still:
            live = self._live
            if live is not None:
                live.stop()
            try:
                self._console.print(question, end="", markup=False, highlight=False)
                return read().strip()
            finally:
                if live is not None and self._live is live and not self._ended.is_set():
                    live.start(refresh=True)

    def _go_on(self) -> None:
        while not self._ended.wait(_EVERY):
            try:
                shown = render_snapshot(self._look())
                with self._still:
                    if self._live is not None:
                        self._live.update(shown, refresh=True)
            except Exception:  # a view is worth less than the job that it shows
                self._take_away()
                return

    def _look(self) -> Snapshot:
        now = self._clock()
        with Store.open(self._database, read_only=True) as store:
            summary = store.summary()
            return Snapshot(
                now=now,
                summary=summary,
                pace=throughput(summary, now),
                instances=store.instances(),
                cost=store.spending(now),
                failures=self._failures.look(),
            )


def render_snapshot(snapshot: Snapshot) -> RenderableType:
    """What is shown of one moment."""
    return Group(*_parts(snapshot))


def _parts(snapshot: Snapshot) -> Iterator[RenderableType]:
    summary = snapshot.summary
    yield Text()
    yield _bar(summary)
    counts = "  ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in status_counts(summary).items())
    running = summary.counts.get(TaskStatus.RUNNING, 0)
    yield Text(counts + (f"  ({running:,} running now)" if running else ""))
    yield Text("  ".join(_speed(snapshot)))
    if snapshot.instances:
        yield Text("  ".join(_money(snapshot)))
    alive = [record for record in snapshot.instances if record.ended_at is None]
    if alive:
        yield Text()
        yield _machines(alive)
    if snapshot.failures:
        yield Text()
        yield _failures(snapshot.failures)


def _bar(summary: JobSummary) -> RenderableType:
    done, total = summary.finished_tasks, summary.total
    share = f"{done / total:.0%}" if total else "-"
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(summary.job.job_id, style="bold"),
        ProgressBar(total=max(total, 1), completed=done, width=40),
        Text(f"{done:,} of {total:,} tasks ({share})"),
    )
    return row


def _speed(snapshot: Snapshot) -> Iterator[str]:
    rate, summary = snapshot.pace, snapshot.summary
    if rate is None:
        yield _without_rate(summary)
        return
    yield f"{rate.tasks_per_hour:,.0f} tasks/hour"
    if summary.remaining:
        yield f"about {format_duration(rate.remaining_time)} left (until {rate.end:%Y-%m-%d %H:%M} UTC)"


def _without_rate(summary: JobSummary) -> str:
    if not summary.remaining:
        return "every task has ended"
    if summary.finished_tasks > summary.finished_before:
        return "nothing works on the job now"
    return "no task has ended since this run began"


def _money(snapshot: Snapshot) -> Iterator[str]:
    price = sum((each.price_per_hour for each in snapshot.instances if each.ended_at is None), Money.zero())
    yield f"{snapshot.cost} so far"
    yield f"{price}/hour now"
    if snapshot.pace is not None and snapshot.summary.remaining:
        yield f"about {snapshot.pace.final_cost(snapshot.cost, price)} in the end"


def _machines(alive: Sequence[InstanceRecord]) -> Table:
    groups: dict[tuple[str, str, str, str], list[InstanceRecord]] = defaultdict(list)
    for record in alive:
        state = (record.state or InstanceState.STARTING).value
        groups[state, record.instance_type, record.purchase.value, record.zone].append(record)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("State", "Instance type", "Purchase", "Zone"):
        table.add_column(name)
    for name in ("Instances", "Running tasks", "Price/hour"):
        table.add_column(name, justify="right")
    for key, group in sorted(groups.items()):
        running = sum(record.running_tasks for record in group)
        price = sum((record.price_per_hour for record in group), Money.zero())
        table.add_row(*(Text(cell) for cell in (*key, str(len(group)), str(running), str(price))))
    return table


def _failures(failures: Sequence[LatestFailure]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    table.add_column("Last failures", no_wrap=True)
    table.add_column("Task", no_wrap=True)
    table.add_column("Attempt", justify="right")
    table.add_column("Reason", no_wrap=True, overflow="ellipsis")
    for failure in failures:
        attempt = "" if failure.attempt is None else str(failure.attempt)
        cells = (f"{failure.at:%H:%M:%S}", failure.task_id, attempt, failure.reason)
        table.add_row(*(Text(cell) for cell in cells))
    return table
