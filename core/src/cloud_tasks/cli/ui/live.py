"""Live view of a job on a terminal, read from the job database while the controller runs.

Invariants, each with a test:

1. The view changes nothing; a failure ends the view, never the job.
2. Log lines appear above it, complete; prompts appear below it, while it is paused.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import attrs
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.model import Money
from cloud_tasks.quantities import counted, format_cost, format_duration
from cloud_tasks.report import Throughput, status_counts, throughput
from cloud_tasks.store import InstanceRecord, JobSummary, LatestFailure, RecentFailures, Store, job_time, present_price
from cloud_tasks.tables import Column, render_table

__all__ = ["LiveView", "Snapshot", "render_snapshot"]

R = TypeVar("R")

_INTERVAL = 1.0
"""Seconds between two reads of the database."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """A job at one point in time, as the view shows it."""

    now: datetime
    summary: JobSummary
    pace: Throughput | None
    instances: Sequence[InstanceRecord]
    cost: Money
    failures: Sequence[LatestFailure]


class LiveView:
    """View of a job from `start` to `stop`; a context manager.

    Args:
        database: Job database, which has to exist at `start`.
        console: Console to show it on; None: standard error.
        clock: Return the current time (UTC) of a job.
    """

    def __init__(
        self,
        database: Path,
        *,
        console: Console | None = None,
        clock: Callable[[Store], datetime] = job_time,
    ) -> None:
        self._database = database
        self._clock = clock
        self._console = console or Console(stderr=True)
        self._failures = RecentFailures(database)
        self._live: Live | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        """Held while the view is drawn, paused or removed."""
        self._updater: threading.Thread | None = None

    def start(self) -> None:
        """Show the view and keep it updated; do nothing on a terminal without cursor control."""
        if self._console.is_dumb_terminal:
            return
        try:
            first = render_snapshot(self._read())
            # The view redirects standard error, so that log lines appear above it.
            live = Live(first, console=self._console, auto_refresh=False, redirect_stdout=False, transient=True)
            live.start(refresh=True)
        except (CloudTasksError, OSError):
            return
        self._live = live
        self._updater = threading.Thread(target=self._update, name="live-view", daemon=True)
        self._updater.start()

    def stop(self) -> None:
        """Remove the view; idempotent."""
        self._stopped.set()
        if self._updater is not None:
            self._updater.join()
        self._remove()

    def _remove(self) -> None:
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                # The terminal may be closed.
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
        """Pause the view, prompt, return the line that ``read`` returns, and show the view again."""
        with self._lock:
            live = self._live
            if live is not None:
                live.stop()
            try:
                self._console.print(question, end="", markup=False, highlight=False)
                return read().strip()
            finally:
                if live is not None and self._live is live and not self._stopped.is_set():
                    live.start(refresh=True)

    def _update(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            try:
                shown = render_snapshot(self._read())
                with self._lock:
                    if self._live is not None:
                        self._live.update(shown, refresh=True)
            except Exception:  # a failed view must not affect the job
                self._remove()
                return

    def _read(self) -> Snapshot:
        with Store.open(self._database, read_only=True) as store:
            now = self._clock(store)
            summary = store.summary()
            return Snapshot(
                now=now,
                summary=summary,
                pace=throughput(summary, now),
                instances=store.instances(),
                cost=store.spending(now),
                failures=self._failures.read(),
            )


def render_snapshot(snapshot: Snapshot) -> RenderableType:
    """Return a snapshot as shown."""
    return Group(*_parts(snapshot))


def _parts(snapshot: Snapshot) -> Iterator[RenderableType]:
    summary = snapshot.summary
    yield Text()
    yield _bar(summary)
    yield Text("  ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in status_counts(summary).items()))
    yield Text("  ".join(_rate(snapshot)))
    if snapshot.instances:
        yield Text("  ".join(_cost(snapshot)))
    running_instances = [record for record in snapshot.instances if record.ended_at is None]
    if running_instances:
        yield Text()
        yield _table(_groups(running_instances), _INSTANCE_COLUMNS)
    if snapshot.failures:
        yield Text()
        yield _table(snapshot.failures, _FAILURE_COLUMNS)


def _bar(summary: JobSummary) -> RenderableType:
    done, total = summary.finished_tasks, summary.total
    share = f" ({done / total:.0%})" if total else ""
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(summary.job.job_id, style="bold"),
        ProgressBar(total=max(total, 1), completed=done, width=40),
        Text(f"{done:,} of {counted(total, 'task')}{share}"),
    )
    return row


def _rate(snapshot: Snapshot) -> Iterator[str]:
    rate, summary = snapshot.pace, snapshot.summary
    if rate is None:
        yield _without_rate(summary)
        return
    yield f"{rate.tasks_per_hour:,.0f} tasks/hour"
    if summary.remaining:
        yield f"about {format_duration(rate.remaining_time)} left (until {rate.end:%Y-%m-%d %H:%M} UTC)"


def _without_rate(summary: JobSummary) -> str:
    if not summary.remaining:
        return "all tasks finished"
    if summary.finished_tasks > summary.finished_before:
        return "no workers running"
    return "no task finished since the start of this run"


def _cost(snapshot: Snapshot) -> Iterator[str]:
    price = present_price(snapshot.instances, snapshot.now)
    yield f"{format_cost(snapshot.cost)} so far"
    yield f"{format_cost(price)}/hour now"
    if snapshot.pace is not None and snapshot.summary.remaining:
        yield f"projected total {format_cost(snapshot.pace.final_cost(snapshot.cost, price))}"


def _groups(records: Sequence[InstanceRecord]) -> Sequence[Sequence[InstanceRecord]]:
    groups: dict[tuple[str, ...], list[InstanceRecord]] = defaultdict(list)
    for record in records:
        kind = (record.instance_type, record.provisioning_model.value, record.zone)
        groups[record.shown_state, *kind].append(record)
    return [group for _, group in sorted(groups.items())]


_INSTANCE_COLUMNS: tuple[Column[Sequence[InstanceRecord]], ...] = (
    Column(name="state", title="State", value=lambda group: group[0].shown_state),
    Column(name="type", title="Instance type", value=lambda group: group[0].instance_type),
    Column(name="purchase", title="Provisioning", value=lambda group: group[0].provisioning_model),
    Column(name="zone", title="Zone", value=lambda group: group[0].zone),
    Column(name="count", title="Instances", value=len, align_right=True),
    Column(
        name="running",
        title="Running tasks",
        value=lambda group: sum(record.running_tasks for record in group),
        align_right=True,
    ),
    Column(
        name="price",
        title="Price/hour",
        value=lambda group: sum((record.price_per_hour for record in group), Money.zero()),
        places=2,
        align_right=True,
    ),
)
_FAILURE_COLUMNS: tuple[Column[LatestFailure], ...] = (
    Column(name="at", title="Last failures", value=lambda failure: f"{failure.at:%H:%M:%S}"),
    Column(name="task_id", title="Task", value=lambda failure: failure.task_id),
    Column(name="attempt", title="Attempt", value=lambda failure: failure.attempt, align_right=True),
    Column(name="reason", title="Reason", value=lambda failure: failure.reason),
)


def _table(rows: Sequence[R], columns: Sequence[Column[R]]) -> Text:
    """Return a table with a bold heading; lines that exceed the terminal end in an ellipsis, to keep the height."""
    heading, _, *lines = render_table(rows, columns).splitlines()
    return Text("\n", no_wrap=True, overflow="ellipsis").join([Text(heading, style="bold"), *map(Text, lines)])
