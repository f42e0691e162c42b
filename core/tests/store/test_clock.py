"""The clock of a job: what happens to the machine's clock, and from one controller to the next."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_facts import instance, launch_request, new_store

from cloud_tasks.store import JobClock, Store, job_time

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@attrs.define
class Machine:
    """A machine whose clock can be set."""

    wall: datetime = NOON
    ticks: float = 100.0
    boot: str = "first boot"

    def pass_time(self, span: timedelta) -> None:
        self.wall += span
        self.ticks += span.total_seconds()

    def start_controller(self, store: Store) -> JobClock:
        clock = JobClock(ticks=lambda: self.ticks, wall=lambda: self.wall.timestamp(), boot=lambda: self.boot)
        clock.resume(store)
        return clock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as made:
        yield made


def launch(store: Store, now: datetime) -> None:
    store.record_intents([launch_request("k1")], now)
    store.record_launched("k1", instance("i1", "k1"), now)


@pytest.mark.parametrize("jump", [HOUR * 8, -HOUR * 8, timedelta(days=-9000)])
def test_job_clock_passes_evenly_during_a_run_and_to_the_next_one(store: Store, jump: timedelta) -> None:
    machine = Machine()
    first = machine.start_controller(store)
    launch(store, first.now())
    machine.pass_time(HOUR)
    machine.wall += jump
    assert first.now() == NOON + HOUR
    machine.pass_time(HOUR)
    assert machine.start_controller(store).now() == NOON + HOUR * 2


@pytest.mark.parametrize(("jump", "expected"), [(HOUR * 8, HOUR * 9), (-HOUR * 8, HOUR)])
def test_job_clock_takes_the_time_of_the_machine_when_no_instance_runs_unless_the_job_has_recorded_a_later_one(
    store: Store, jump: timedelta, expected: timedelta
) -> None:
    machine = Machine()
    first = machine.start_controller(store)
    launch(store, first.now())
    machine.pass_time(HOUR)
    store.record_ended("i1", first.now(), "done")
    machine.wall += jump
    assert machine.start_controller(store).now() == NOON + expected


@pytest.mark.parametrize("boot", ["second boot", ""])
def test_job_clock_takes_the_time_of_the_machine_after_another_boot_and_never_an_earlier_one(
    store: Store, boot: str
) -> None:
    machine = Machine(boot="first boot" if boot else "")
    first = machine.start_controller(store)
    launch(store, first.now())
    machine.pass_time(HOUR)
    store.record_alive(first.now())
    machine.boot, machine.ticks = boot, 3.0
    machine.pass_time(MINUTE)
    assert machine.start_controller(store).now() == NOON + HOUR + MINUTE
    machine.wall = NOON - HOUR
    assert machine.start_controller(store).now() == NOON + HOUR + MINUTE


def test_job_clock_continues_after_the_snapshot_of_a_machine_is_restored(store: Store) -> None:
    machine = Machine()
    first = machine.start_controller(store)
    launch(store, first.now())
    machine.pass_time(HOUR)
    store.record_alive(first.now())
    machine.pass_time(-HOUR)
    assert machine.start_controller(store).now() == NOON + HOUR


@pytest.mark.parametrize("value", [math.inf, -math.inf, "text", None, b"\0", 1e300])
@pytest.mark.parametrize("name", ["clock:first boot", "run:alive"])
def test_job_clock_starts_whatever_is_in_the_database(tmp_path: Path, name: str, value: object) -> None:
    machine = Machine()
    with new_store(tmp_path) as store:
        launch(store, machine.start_controller(store).now())
        with store._writing() as connection:
            connection.execute("DROP TABLE counters")
            connection.execute("CREATE TABLE counters (name TEXT PRIMARY KEY, value)")
            connection.execute("INSERT INTO counters VALUES (?, ?)", (name, value))
        assert machine.start_controller(store).now() == NOON


@settings(deadline=None, max_examples=30)
@given(jumps=st.lists(st.tuples(st.integers(-(10**6), 10**6), st.booleans()), max_size=8))
def test_job_clock_never_runs_backwards_and_lowers_no_cost_while_an_instance_runs(
    tmp_path_factory: pytest.TempPathFactory, jumps: list[tuple[int, bool]]
) -> None:
    machine = Machine()
    with new_store(tmp_path_factory.mktemp("clock")) as store:
        latest = machine.start_controller(store).now()
        launch(store, latest)
        for jump, boots in jumps:
            machine.wall += timedelta(seconds=jump)
            if boots:
                machine.boot, machine.ticks = f"{machine.boot}+", 1.0
            before = store.spending(latest)
            now = machine.start_controller(store).now()
            assert now >= latest
            assert store.spending(now) >= before
            machine.pass_time(MINUTE)
            store.record_alive(latest := now + MINUTE)


def test_job_time_of_a_reader_is_that_of_the_controller(store: Store, tmp_path: Path) -> None:
    launch(store, NOON)
    ahead = JobClock(wall=lambda: time.time() + 7200)
    ahead.resume(store)
    with Store.open(tmp_path / "job.db", read_only=True) as reader:
        assert abs((job_time(reader) - ahead.now()).total_seconds()) < 60


def test_job_clock_needs_no_clock_of_a_certain_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(clock: int) -> float:
        raise OSError

    monkeypatch.setattr("cloud_tasks.store.clock._BOOT_ID", Path("absent"))
    for system in (
        SimpleNamespace(time=time.time, monotonic=time.monotonic),
        SimpleNamespace(time=time.time, monotonic=time.monotonic, CLOCK_BOOTTIME=7, clock_gettime=refuse),
    ):
        monkeypatch.setattr("cloud_tasks.store.clock.time", system)
        clock = JobClock(wall=lambda: NOON.timestamp())
        assert NOON <= clock.now() < NOON + MINUTE
