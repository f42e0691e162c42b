"""Rate, remaining time and cost of a job that was resumed after a pause: every output projects the current run.

2,000 tasks, 1,000 done yesterday in 100 minutes, 100 in the 10 minutes of this run; $10 spent, $2/hour now.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
import structlog
from configuration_fakes import load
from memory_commands import Answer, MemoryCommands
from rich.console import Console
from store_facts import START, at, completed, instance, launch_request, new_store

from cloud_tasks.cli.commands.job.monitor import EventMonitor
from cloud_tasks.cli.logging_setup import configure_logging
from cloud_tasks.cli.ui.live import LiveView
from cloud_tasks.cli.ui.progress_log import ProgressLog
from cloud_tasks.controller import Progress
from cloud_tasks.model import Event, Money
from cloud_tasks.store import JobClock, Store

RUN = START + timedelta(days=1)
NOW = RUN + timedelta(minutes=10)
YESTERDAY = "5.8"
"""Dollars an hour: for 100 minutes $9.67, with ten minutes of $2/hour $10."""


def events_of_this_run() -> list[Event]:
    return [completed(f"t{n}", timestamp=RUN + timedelta(seconds=6 * (n - 999))) for n in range(1000, 1100)]


def fill(store: Store) -> None:
    """Record the run of a controller killed yesterday, and the instance of today."""
    store.begin_run(START)
    store.record_intents([launch_request("k1", price=YESTERDAY)], START, slots=10)
    store.record_launched("k1", instance("i1", "k1"))
    store.apply_events([completed(f"t{n}", timestamp=at(6 * (n + 1))) for n in range(1000)])
    store.record_ended("i1", at(6000), "the job was stopped")
    store.record_intents([launch_request("k2", price="2")], RUN, slots=10)
    store.record_launched("k2", instance("i2", "k2", created=86_400))


@pytest.fixture
def yesterday(tmp_path: Path) -> Path:
    with new_store(tmp_path, [f"t{n}" for n in range(2000)]) as store:
        fill(store)
    return tmp_path / "job.db"


@pytest.fixture
def database(yesterday: Path) -> Path:
    with Store.open(yesterday, durable=False) as store:
        store.begin_run(RUN)
        store.apply_events(events_of_this_run())
    return yesterday


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Return a function that sets the current time of the commands."""
    present = [NOW]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return present[0]

    monkeypatch.setattr(JobClock, "now", lambda self: present[0])
    monkeypatch.setattr("cloud_tasks.store.store.datetime", Clock)

    def set_now(now: datetime) -> None:
        present[0] = now

    return set_now


def call(database: Path, command: str, *arguments: str) -> Answer:
    """Call a command while a controller has the database open."""
    with Store.open(database, durable=False):
        return call_alone(database, command, *arguments)


def call_alone(database: Path, command: str, *arguments: str) -> Answer:
    return MemoryCommands().call(command, "--job-id", "job", "--db-file", str(database), *arguments)


SUMMARY = [
    "  Rate: 600.0 tasks/hour",
    "  Remaining time: about 1h 30m 0s (until 2025-07-09 13:40 UTC)",
    "  Cost: $10.00 so far, $2.00/hour now, projected total $13.00",
]


def test_progress_log_projects_the_current_run(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    try:
        with Store.open(database, read_only=True) as store:
            ProgressLog()(Progress.read(store, NOW))
    finally:
        structlog.reset_defaults()
    captured = capsys.readouterr()
    assert "\n".join(SUMMARY) in captured.err + captured.out


def test_status_projects_the_current_run(database: Path, set_clock: Callable[[datetime], None]) -> None:
    assert call(database, "status").out.splitlines()[-4:] == [*SUMMARY, "  Queue: job"]
    facts = call(database, "status", "--json").data
    assert facts["timing"]["tasks_per_hour"] == pytest.approx(600.0)
    assert facts["timing"]["remaining_seconds"] == pytest.approx(5400.0)
    assert float(facts["expected_cost_usd"]) == pytest.approx(13.0)


def test_status_without_a_controller_says_so_and_has_neither_rate_nor_end(
    database: Path, set_clock: Callable[[datetime], None]
) -> None:
    text = call_alone(database, "status").out
    first = (
        "Job job: no controller since 2025-07-09 12:10:00 UTC, 1 instance may be running; "
        f"resume it with `cloud-tasks run --continue --provider memory --job-id job --db-file {database}`"
    )
    assert text.splitlines()[:2] == [first, "Summary:"]
    assert "Rate" not in text
    assert "Remaining" not in text
    assert "projected" not in text
    facts = call_alone(database, "status", "--json").data
    assert (facts["state"], facts["since"], facts["controller_pid"]) == (
        "no_controller",
        "2025-07-09T12:10:00+00:00",
        None,
    )
    assert (facts["timing"]["tasks_per_hour"], facts["expected_cost_usd"]) == (None, None)
    assert call(database, "status").out.startswith(
        f"Job job: running since 2025-07-09 12:00:00 UTC (PID {os.getpid()})"
    )


def test_live_view_projects_the_current_run_whenever_it_was_opened(database: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with LiveView(database, console=console, clock=lambda store: NOW):
        text = screen.getvalue()
    assert "600 tasks/hour  about 1h 30m 0s left" in text
    assert "$10.00 so far  $2.00/hour now  projected total $13.00" in text


def test_report_covers_the_current_run_in_every_format(database: Path, set_clock: Callable[[datetime], None]) -> None:
    text = call(database, "report").out
    assert "Elapsed time: 10m 0s (this run, 100 tasks)\nTasks/hour: 600.0\n" in text
    assert "| Tasks per hour | 600.0 |" in call(database, "report", "--format", "markdown").out
    assert "<dt>Tasks per hour</dt><dd>600.0</dd>" in call(database, "report", "--format", "html").out
    facts = call(database, "report", "--format", "json").data
    assert facts["run_seconds"] == 600.0
    assert facts["timing"]["tasks_per_hour"] == pytest.approx(600.0)
    assert float(facts["expected_cost_usd"]) == pytest.approx(13.0)


def test_event_sinks_receive_the_projection_of_the_current_run(database: Path) -> None:
    with Store.open(database, read_only=True) as store:
        progress = Progress.read(store, NOW).for_sinks(max_total_cost=Money(12))
    assert progress.expected_cost is not None
    assert progress.expected_cost.format(2) == "$13.00"
    assert progress.started_at == RUN


def test_monitor_projects_from_its_own_start(
    yesterday: Path, set_clock: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("cloud_tasks.cli.commands.job.monitor.click.echo", lambda text, **_: shown.append(text))
    queue = MemoryCommands().queue("job-events")
    queue.create()
    with Store.open(yesterday, durable=False) as store:
        set_clock(RUN)
        monitor = EventMonitor(store, queue, {}, load(options={"provider": "local"}), interval=timedelta(seconds=10))

        def work() -> None:
            store.apply_events(events_of_this_run())
            set_clock(NOW)
            monitor._show()
            monitor._interrupt()

        monitor._loop.post(work)
        assert monitor.run(forever=False, as_json=False) == 130
    assert any("\n".join(SUMMARY) in text for text in shown), shown
