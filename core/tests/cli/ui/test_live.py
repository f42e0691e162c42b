"""Live view: content, updates, log lines, prompts, and failures."""

from __future__ import annotations

import io
import sys
from datetime import datetime
from pathlib import Path

import attrs
import pytest
import structlog
from command_line import wait_until
from rich.console import Console
from store_facts import at, completed, failed, instance, launch_request, new_store, started

from cloud_tasks.cli.logging_setup import configure_logging
from cloud_tasks.cli.ui.live import LiveView, Snapshot, render_snapshot
from cloud_tasks.model import InstanceState, Money
from cloud_tasks.report import throughput
from cloud_tasks.store import Store
from cloud_tasks.store.queries.recent_failures import RecentFailures


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with new_store(tmp_path, [f"t{number}" for number in range(1, 11)]) as store:
        for token, name in (("k1", "i1"), ("k2", "i2")):
            store.record_intents([launch_request(token, price="0.50")], at(0), slots=4)
            store.record_launched(token, instance(name, token))
        store.record_intents([launch_request("k3", price="0.50")], at(0), slots=4)
        store.mark_queued([f"t{number}" for number in range(1, 11)])
        store.apply_events([started("t1"), completed("t1", timestamp=at(60)), started("t2", timestamp=at(60))])
        store.apply_events([failed("t3", message="[red]bad[/red]", timestamp=at(90))])
    return tmp_path / "job.db"


def shown(snapshot: Snapshot) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    with console.capture() as capture:
        console.print(render_snapshot(snapshot))
    return capture.get()


def look(database: Path, now: datetime) -> Snapshot:
    with Store.open(database, read_only=True) as store:
        return Snapshot(
            now=now,
            summary=store.summary(),
            pace=throughput(store.summary(), now),
            instances=store.instances(),
            cost=store.spending(now),
            failures=RecentFailures(database).read(),
        )


def test_render_snapshot_shows_progress_rate_and_cost(database: Path) -> None:
    text = shown(look(database, at(3600)))
    assert "2 of 10 tasks (20%)" in text
    assert "completed 1  running 1  queued 7  failed 1\n" in text
    assert "2 tasks/hour  about 4h 0m 0s left (until 2025-07-08 17:00 UTC)" in text
    assert "$1.50 so far  $1.50/hour now  projected total $7.50" in text


def test_render_snapshot_groups_instances_by_state_and_type(database: Path) -> None:
    rows = [line.split() for line in shown(look(database, at(100))).splitlines()]
    assert ["running", "type-4", "spot", "zone-a", "2", "1", "$1.00"] in rows
    assert ["starting", "type-4", "spot", "zone-a", "1", "0", "$0.50"] in rows


def test_render_snapshot_shows_failures_without_interpreting_markup(database: Path) -> None:
    assert "12:01:30       t3          1  ValueError: [red]bad[/red]" in shown(look(database, at(100)))


def test_render_snapshot_of_a_new_job_shows_no_cost(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"]).close()
    text = shown(look(tmp_path / "job.db", at(1)))
    assert "0 of 1 task (0%)" in text
    assert "no task finished since the start of this run" in text
    assert "$" not in text


def test_render_snapshot_of_a_finished_job_shows_no_remaining_time(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.apply_events([completed("a", timestamp=at(1))])
    found = look(tmp_path / "job.db", at(10))
    assert " left " not in shown(found)
    assert "all tasks finished" in shown(attrs.evolve(found, pace=None, cost=Money(0)))


def test_recent_failures_keeps_the_latest_and_reads_each_once(tmp_path: Path) -> None:
    with new_store(tmp_path, [f"t{number}" for number in range(8)]) as store:
        watch = RecentFailures(tmp_path / "job.db", limit=3)
        assert watch.read() == ()
        store.apply_events([failed(f"t{number}") for number in range(5)])
        assert [failure.task_id for failure in watch.read()] == ["t4", "t3", "t2"]
        assert [failure.task_id for failure in watch.read()] == ["t4", "t3", "t2"]
        store.apply_events([failed("t6", message="other")])
        assert [(failure.task_id, failure.reason) for failure in watch.read()][:2] == [
            ("t6", "ValueError: other"),
            ("t4", "ValueError: bad"),
        ]


def terminal() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=100), screen


def test_live_view_follows_the_database(database: Path) -> None:
    console, screen = terminal()
    with LiveView(database, console=console, clock=lambda store: at(3600)) as view:
        assert view.is_shown
        assert "2 of 10 tasks" in screen.getvalue()
        with Store.open(database) as store:
            store.apply_events([completed("t2", timestamp=at(70))])
        wait_until(lambda: "3 of 10 tasks" in screen.getvalue())
    assert not view.is_shown


def test_log_lines_appear_above_the_view_complete(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console, screen = terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    configure_logging()
    try:
        with LiveView(database, console=console, clock=lambda store: at(3600)):
            structlog.get_logger().info("Something happened")
    finally:
        structlog.reset_defaults()
    assert any(line.endswith("INFO - Something happened") for line in screen.getvalue().splitlines())


def test_live_view_pauses_for_a_prompt(database: Path) -> None:
    console, screen = terminal()
    with LiveView(database, console=console, clock=lambda store: at(3600)) as view:
        assert view.ask("[T]erminate? ", lambda: "t\n") == "t"
        assert "[T]erminate? " in screen.getvalue()
        assert view.is_shown


def test_live_view_without_a_database_is_not_shown(tmp_path: Path) -> None:
    console, screen = terminal()
    with LiveView(tmp_path / "absent.db", console=console) as view:
        assert not view.is_shown
        assert view.ask("Well? ", lambda: "yes\n") == "yes"
    assert "Well? " in screen.getvalue()


def test_live_view_ends_when_the_database_is_deleted(database: Path) -> None:
    console, _ = terminal()
    view = LiveView(database, console=console, clock=lambda store: at(3600))
    with view:
        database.unlink()
        wait_until(lambda: not view.is_shown)


def test_render_snapshot_shows_pending_instances_without_a_price_now(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.record_intents([launch_request("t1", price="1")], at(0))
        found = attrs.evolve(instance("i1", "t1", state=InstanceState.PENDING), reason="Resources")
        store.record_launched("t1", found, at(0), at(1))
    text = shown(look(tmp_path / "job.db", at(7200)))
    assert "pending (Resources)" in text
    assert "$0.00 so far  $0.00/hour now" in text
