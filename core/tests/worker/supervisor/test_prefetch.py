"""Short tasks wait at the template, so that one starts the moment another ends: in order, and never for long."""

from __future__ import annotations

import contextlib
import itertools
import select
import sqlite3
import time
from datetime import timedelta

import attrs
import pytest
from worker_harness import Harness, wait_until
from worker_test_plugin import FolderQueue

from cloud_tasks.convert import decode_task_message, encode_task_message
from cloud_tasks.model import TaskMessage
from cloud_tasks.plugin import QueueTraits
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender
from cloud_tasks.worker.consumers.queue import QueueConsumer
from cloud_tasks.worker.forkserver.protocol import AttemptEnded, AttemptStarted, RunAttempt, Withdrawn
from cloud_tasks.worker.supervisor.attempt_executor import AttemptExecutor
from cloud_tasks.worker.supervisor.prefetch import prefetch_count
from cloud_tasks.worker.supervisor.settings import SupervisorSettings

QUICK = {"do": "nothing"}


@pytest.mark.parametrize(("mean", "ahead"), [(None, 0), (1.0, 0), (0.011, 0), (0.005, 2), (0.001, 10), (0.0, 64)])
def test_no_more_is_sent_ahead_than_a_slot_does_in_a_moment(mean, ahead) -> None:
    assert prefetch_count(mean) == ahead


# -- what the supervisor makes of it


@attrs.define
class Crew:
    """A template that does nothing by itself."""

    run_numbers: list[int] = attrs.field(factory=list)
    withdrawals: int = 0
    killed: list[int] = attrs.field(factory=list)

    def run(self, attempt: RunAttempt) -> None:
        self.run_numbers.append(attempt.number)

    def withdraw(self) -> None:
        self.withdrawals += 1

    def kill(self, number: int, sign: int) -> None:
        self.killed.append(number)

    def make(self, slot: int) -> None:
        raise AssertionError("no process does several tasks here")


@attrs.define
class Watched:
    """Attempts of two slots, and what they told."""

    crew: Crew = attrs.field(factory=Crew)
    begun: list[str] = attrs.field(factory=list)
    ended: list[tuple[str, str]] = attrs.field(factory=list)
    returned: list[str] = attrs.field(factory=list)
    attempts: AttemptExecutor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.attempts = AttemptExecutor(
            SupervisorSettings(2, 60.0, 1.0, 1.0, 0.0, None, None, "/nowhere", False),
            self.crew,  # type: ignore[arg-type]  # what is used of it
            select.poll(),
            on_begun=lambda running: self.begun.append(running.work.task_id),
            on_ended=lambda running, outcome, *_: self.ended.append((running.work.task_id, outcome.kind.value)),
            on_returned=lambda works: self.returned.extend(work.task_id for work in works),
        )
        self.attempts.expect(0.005)

    def fill(self) -> int:
        count = 0
        while self.attempts.room:
            self.attempts.start(PendingAttempt(f"task-{count}", {}))
            count += 1
        return count

    def say_started(self, number: int, slot: int, when: float = 0.0) -> None:
        self.attempts.on_message(AttemptStarted(number, slot, 100 + number, when))


def test_what_waits_has_no_deadline_yet_and_no_slot() -> None:
    watched = Watched()
    assert watched.fill() == 2 + 2 * 2
    assert (watched.begun, watched.attempts.running, watched.attempts.count) == ([], [], 6)
    watched.say_started(0, 1)
    (running,) = watched.attempts.running
    assert (running.work.task_id, running.slot, running.pid) == ("task-0", 1, 100)
    assert len(watched.attempts.started) == 6
    watched.attempts.on_message(AttemptEnded(0, 0, 1.0, b"\2\0\0\0\0\0\0\0{}null", b""))
    assert watched.ended == [("task-0", "completed")]
    assert watched.attempts.room == 1


def test_what_waits_for_long_is_asked_back_and_nothing_is_sent_meanwhile() -> None:
    watched = Watched()
    watched.fill()
    watched.say_started(0, 0)
    watched.say_started(1, 1)
    assert watched.attempts.due_at < float("inf")
    for running in watched.attempts.started[2:]:
        running.started -= 10.0
    watched.attempts.on_time()
    watched.attempts.on_time()
    assert watched.crew.withdrawals == 1
    assert watched.attempts.room == 0
    # One has started before the template heard of it.
    watched.say_started(2, 0)
    watched.attempts.on_message(Withdrawn([3, 4, 5]))
    assert watched.returned == ["task-3", "task-4", "task-5"]
    assert watched.attempts.count == 3


def test_when_all_are_ended_what_waits_is_asked_back_and_not_killed() -> None:
    watched = Watched()
    watched.fill()
    watched.say_started(0, 0)
    watched.attempts.end_all("shutdown")
    assert (watched.crew.withdrawals, watched.crew.killed) == (1, [0])
    watched.attempts.on_message(Withdrawn([1, 2, 3, 4, 5]))
    assert len(watched.returned) == 5


def test_what_is_told_to_have_begun_after_all_were_ended_ends_too() -> None:
    watched = Watched()
    watched.fill()
    watched.say_started(0, 0)
    watched.attempts.end_all("shutdown")
    # This was on its way.
    watched.say_started(1, 1)
    watched.attempts.on_message(Withdrawn([2, 3, 4, 5]))
    assert watched.crew.killed == [0, 1]
    assert [running.cause for running in watched.attempts.running] == ["shutdown", "shutdown"]


def test_with_the_template_dies_no_more_than_could_have_begun() -> None:
    watched = Watched()
    watched.fill()
    watched.say_started(0, 0)
    assert watched.attempts.template_gone() == 2
    assert watched.ended == [("task-0", "lost"), ("task-1", "lost")]
    assert watched.returned == [f"task-{number}" for number in range(2, 6)]
    assert watched.attempts.count == 0


def test_slots_are_held_up_while_each_has_had_its_task_for_long() -> None:
    watched = Watched()
    watched.fill()
    watched.say_started(0, 0, when=1.0)
    assert watched.attempts.held_up == 0.0
    watched.say_started(1, 1, when=1.0)
    assert watched.attempts.held_up > 0.0


# -- real workers


def spans(worker: Harness) -> list[tuple[int, float, float, int]]:
    rows = [line.split() for line in worker.noted("spans")]
    return [(int(slot), float(began), float(ended), int(place)) for slot, began, ended, place in rows]


def test_a_slot_has_one_task_at_a_time_and_tasks_start_in_order(worker) -> None:
    tasks = [{"do": "span", "place": place} for place in range(300)]
    assert worker.run_tasks(*tasks, args=("--num-simultaneous-tasks", "2")).code == 0
    rows = sorted(spans(worker), key=lambda row: row[1])
    assert len(rows) == 300
    assert {slot for slot, *_ in rows} == {0, 1}
    for slot in (0, 1):
        own = [(began, ended) for of, began, ended, _ in rows if of == slot]
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))
    started = [event["task_id"] for event in worker.events("task_started")]
    assert started == [f"task-{number}" for number in range(300)]


def test_short_tasks_behind_a_long_one_use_the_other_slot(worker) -> None:
    quick = [{"do": "span", "place": place} for place in range(120)]
    long = {"do": "span", "place": 1000, "seconds": 3.0}
    assert worker.run_tasks(*quick[:60], long, *quick[60:], args=("--num-simultaneous-tasks", "2")).code == 0
    rows = spans(worker)
    assert len(rows) == 121
    assert rows[-1][3] == 1000


def test_a_template_killed_among_short_tasks_costs_none_of_them(worker) -> None:
    tasks = [QUICK] * 100 + [{"do": "kill parent"}] + [QUICK] * 100
    finished = worker.run_tasks(*tasks, args=("--num-simultaneous-tasks", "2"))
    assert finished.code == 0, finished.log
    completed = [event["task_id"] for event in worker.events("task_completed")]
    assert sorted(completed) == sorted(f"task-{number}" for number in range(201))
    assert 1 <= len(worker.events("task_released")) <= 2
    assert worker.nothing_is_left()


def test_tasks_that_no_slot_will_soon_be_free_for_are_left_to_other_workers(worker) -> None:
    held = [{"do": "wait for shutdown"}] * 2
    worker.load(*[QUICK] * 60, *held, *[QUICK] * 40)
    process = worker.start_on_queue("--num-simultaneous-tasks", "2")
    wait_until(lambda: worker.queue().depth().visible == 40, what="giving back")
    assert process.poll() is None
    assert len(worker.noted("waiting")) == 2
    # Another does them meanwhile, and for nobody they were lost.
    others = worker.queue().receive(10, wait=timedelta(0))
    assert len(others) == 10
    assert {(each.delivery_count, decode_task_message(each.body).losses) for each in others} == {(1, 0)}
    process.terminate()
    assert worker.finish(process).code == 143
    assert len(worker.queued_events("task_completed")) == 62


# -- what is shared with other workers


def deliveries(worker: Harness) -> dict[str, int | None]:
    """How often each task in the queue was delivered, with this time."""
    received = worker.queue().receive(100, wait=timedelta(0))
    return {decode_task_message(delivery.body).task_id: delivery.delivery_count for delivery in received}


def extended(worker: Harness, message: int) -> int:
    """How often the leases of a message were extended."""
    return sum(lease.startswith(f"{message}/") for lease in worker.noted("extended"))


def take_over(worker: Harness, first: int) -> None:
    """Give the leases of all messages from this one on to another consumer."""
    with contextlib.closing(sqlite3.connect(worker.folder / "job.sqlite", timeout=30)) as connection:
        connection.execute(
            "UPDATE messages SET lease = 'another', visible = ? WHERE id >= ?", (time.time() + 1000, first)
        )
        connection.commit()


def leases(worker: Harness, *tasks: str) -> list[tuple[str, str | None]]:
    """The lease of each message of these tasks."""
    with contextlib.closing(sqlite3.connect(worker.folder / "job.sqlite", timeout=30)) as connection:
        rows = connection.execute("SELECT body, lease FROM messages ORDER BY id").fetchall()
    found = [(decode_task_message(body).task_id, lease) for body, lease in rows]
    return [(task_id, lease) for task_id, lease in found if task_id in tasks]


@pytest.mark.parametrize("flag", ["received_shutdown_request", "received_termination_notice"])
def test_waiting_attempts_are_withdrawn_before_running_tasks_see_a_shutdown(worker, flag) -> None:
    worker.load(*[QUICK] * 60, {"do": "spin", "flag": flag}, *[{"do": "wait"}] * 20)
    process = worker.start_on_queue(
        *("--num-simultaneous-tasks", "1", "--shutdown-grace-period", "2", "--notice-interval", "0.05"),
        *("--idle-limit", "60"),
    )
    wait_until(lambda: worker.noted("waiting"))
    if flag == "received_shutdown_request":
        process.terminate()
    else:
        (worker.folder / "notice").touch()
    worker.finish(process)
    assert len(worker.noted("waiting")) == 1
    assert deliveries(worker) == {f"task-{number}": 1 for number in range(61, 81)}


@pytest.mark.parametrize("is_noticed", [True, False])
def test_shutdown_sends_no_copy_of_a_waiting_task_whose_lease_was_lost(worker, is_noticed) -> None:
    worker.load(*[QUICK] * 60, {"do": "wait"}, *[QUICK] * 3)
    process = worker.start_on_queue(
        *("--num-simultaneous-tasks", "1", "--lease", "1.5", "--shutdown-grace-period", "0", "--idle-limit", "60")
    )
    wait_until(lambda: worker.noted("waiting"))
    # Leases are extended each half second: the waiting attempts are withdrawn from the template before the second time.
    wait_until(lambda: extended(worker, 64) >= 2)
    take_over(worker, first=62)
    if is_noticed:
        before = extended(worker, 61)
        wait_until(lambda: extended(worker, 61) >= before + 2)
    process.terminate()
    worker.finish(process)
    taken = ["task-61", "task-62", "task-63"]
    assert leases(worker, *taken) == [(task_id, "another") for task_id in taken]


@pytest.mark.parametrize("do", ["raise", "kill parent", "retry until"])
def test_retry_of_a_task_whose_lease_was_lost_is_left_to_the_queue(worker, do) -> None:
    worker.load({"do": do, "attempts": 2, "until": "taken over"})
    process = worker.start_on_queue("--num-simultaneous-tasks", "1", "--retry-on-exception", "--idle-limit", "60")
    wait_until(lambda: worker.queued_events("task_started"))
    take_over(worker, first=1)
    (worker.folder / "taken over").touch()
    wait_until(lambda: worker.queued_events("task_exception", "task_completed", "task_released"))
    process.terminate()
    worker.finish(process)
    assert leases(worker, "task-0") == [("task-0", "another")]
    assert [event["attempt"] for event in worker.queued_events("task_started")] == [1]


def test_tasks_that_take_longer_than_those_before_are_left_to_other_workers(worker) -> None:
    worker.load(*[QUICK] * 80, *[{"do": "span", "seconds": 1.2, "place": place} for place in range(150)])
    process = worker.start_on_queue("--num-simultaneous-tasks", "2")
    wait_until(lambda: len(worker.noted("spans")) >= 2)
    wait_until(lambda: worker.queue().depth().in_flight <= 10, what="most to be given back")
    assert worker.queue().depth().visible >= 100
    process.kill()


def test_a_task_that_is_due_later_than_the_queue_can_delay_does_not_die_of_waiting(tmp_path) -> None:
    queue = FolderQueue(tmp_path, "job")
    queue.create()
    message = TaskMessage(task_id="later", data={}, attempt=2, not_before=time.time() + 3600)
    queue.send([encode_task_message(message)])
    log, unused, dead = Log(verbose=False), list[PendingAttempt](), list[PendingAttempt]()
    feed = QueueConsumer(
        queue,
        QueueTraits(
            max_message_bytes=100_000,
            send_batch=10,
            receive_batch=10,
            max_lease=timedelta(seconds=60),
            delay=timedelta(seconds=1),
            reports_delivery_count=True,
        ),
        LeaseExtender(queue, timedelta(seconds=60), on_lost=print, log=log),
        slots=1,
        max_losses=0,
        on_malformed=print,
        on_dead=dead.append,
        on_unused=unused.extend,
        on_change=lambda: None,
        log=log,
    )
    feed.start()
    feed.want(1, mean_seconds=None)
    wait_until(lambda: unused)
    feed.close()
    ((again,), gone) = unused, dead
    assert (again.task_id, again.attempt, again.losses, gone) == ("later", 2, 0, [])
    assert again.not_before == pytest.approx(message.not_before)
