"""Prefetch of short tasks: they wait at the fork server, in order and never for long."""

from __future__ import annotations

import contextlib
import itertools
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
from cloud_tasks.worker.common.shared_flags import SharedFlags
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender
from cloud_tasks.worker.consumers.queue import QueueConsumer
from cloud_tasks.worker.forkserver.protocol import AttemptEnded, AttemptStarted, RunAttempt, Withdrawn
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.attempt_executor import AttemptExecutor
from cloud_tasks.worker.supervisor.execution.prefetch import prefetch_count
from cloud_tasks.worker.supervisor.settings import SupervisorSettings
from cloud_tasks.worker.task_process.report_format import encode_report

QUICK = {"do": "nothing"}


@pytest.mark.parametrize(("mean", "ahead"), [(None, 0), (1.0, 0), (0.011, 0), (0.005, 2), (0.001, 10), (0.0, 64)])
def test_prefetch_count_is_so_many_seconds_of_tasks(mean, ahead) -> None:
    assert prefetch_count(mean, seconds=0.01) == ahead


# -- the executor


@attrs.define
class ForkServer:
    """A fork server that records its requests."""

    run_numbers: list[int] = attrs.field(factory=list)
    withdrawals: int = 0
    killed: list[int] = attrs.field(factory=list)

    def run_attempt(self, attempt: RunAttempt) -> None:
        self.run_numbers.append(attempt.number)

    def withdraw(self) -> None:
        self.withdrawals += 1

    def kill_attempt(self, number: int, signal: int) -> None:
        self.killed.append(number)

    def start_process(self, slot: int) -> None:
        raise AssertionError("no process is reused here")


@attrs.define
class Watched:
    """An executor with two slots, and its reports."""

    server: ForkServer = attrs.field(factory=ForkServer)
    started: list[str] = attrs.field(factory=list)
    ended: list[tuple[str, str]] = attrs.field(factory=list)
    returned: list[str] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    attempts: AttemptExecutor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.attempts = AttemptExecutor(
            SupervisorSettings(2, 60.0, 1.0, 1.0, 0.0, None, None, "/nowhere", False),
            self.server,  # type: ignore[arg-type]  # has the methods that are called
            EventLoop(),
            SharedFlags(),
            on_started=lambda attempt: self.started.append(attempt.work.task_id),
            on_ended=lambda attempt, outcome, *_: self.ended.append((attempt.work.task_id, outcome.kind.value)),
            on_returned=lambda attempts: self.returned.extend(each.task_id for each in attempts),
            on_start_failed=self.failures.append,
        )
        self.attempts.expect(0.02)

    def fill(self) -> int:
        count = 0
        while self.attempts.capacity:
            self.attempts.submit(PendingAttempt(f"task-{count}", {}))
            count += 1
        return count

    def report_start(self, number: int, slot: int, when: float = 0.0) -> None:
        self.attempts.on_message(AttemptStarted(number, slot, 100 + number, when))


def test_executor_gives_waiting_attempts_no_deadline_and_no_slot() -> None:
    watched = Watched()
    assert watched.fill() == 2 + 2 * 2
    assert (watched.started, watched.attempts.running, watched.attempts.count) == ([], [], 6)
    watched.report_start(0, 1)
    (running,) = watched.attempts.running
    assert (running.work.task_id, running.slot, running.pid) == ("task-0", 1, 100)
    assert len(watched.attempts.unfinished) == 6
    watched.attempts.on_message(AttemptEnded(0, 0, 1.0, encode_report({}, b"null"), b""))
    assert watched.ended == [("task-0", "completed")]
    assert watched.attempts.capacity == 1


def test_executor_withdraws_attempts_that_wait_for_long_and_submits_none_meanwhile() -> None:
    watched = Watched()
    watched.fill()
    watched.report_start(0, 0)
    watched.report_start(1, 1)
    assert watched.attempts.due_at < float("inf")
    for running in watched.attempts.unfinished[2:]:
        running.started -= 10.0
    watched.attempts.enforce_limits()
    watched.attempts.enforce_limits()
    assert watched.server.withdrawals == 1
    assert watched.attempts.capacity == 0
    # One has started before the fork server received the request.
    watched.report_start(2, 0)
    watched.attempts.on_message(Withdrawn([3, 4, 5]))
    assert watched.returned == ["task-3", "task-4", "task-5"]
    assert watched.attempts.count == 3


def test_executor_withdraws_waiting_attempts_when_all_are_ended() -> None:
    watched = Watched()
    watched.fill()
    watched.report_start(0, 0)
    watched.attempts.end_all("shutdown")
    assert (watched.server.withdrawals, watched.server.killed) == (1, [0])
    watched.attempts.on_message(Withdrawn([1, 2, 3, 4, 5]))
    assert len(watched.returned) == 5


def test_executor_ends_attempts_that_start_after_all_were_ended() -> None:
    watched = Watched()
    watched.fill()
    watched.report_start(0, 0)
    watched.attempts.end_all("shutdown")
    # This start was reported before the fork server received the request.
    watched.report_start(1, 1)
    watched.attempts.on_message(Withdrawn([2, 3, 4, 5]))
    assert watched.server.killed == [0, 1]
    assert [running.cause for running in watched.attempts.running] == ["shutdown", "shutdown"]


def test_executor_interrupts_at_most_one_attempt_per_slot_when_the_fork_server_dies() -> None:
    watched = Watched()
    watched.fill()
    watched.report_start(0, 0)
    assert watched.attempts.on_forkserver_died("the fork server died") == 2
    assert watched.ended == [("task-0", "lost"), ("task-1", "lost")]
    assert watched.returned == [f"task-{number}" for number in range(2, 6)]
    assert watched.attempts.count == 0


def test_executor_measures_for_how_long_every_slot_has_been_busy() -> None:
    watched = Watched()
    watched.fill()
    watched.report_start(0, 0, when=1.0)
    assert watched.attempts.busy_seconds == 0.0
    watched.report_start(1, 1, when=1.0)
    assert watched.attempts.busy_seconds > 0.0


# -- real workers


def spans(worker: Harness) -> list[tuple[int, float, float, int]]:
    """Return (slot, start, end, place) of each finished task."""
    rows = [line.split() for line in worker.noted("spans")]
    return [(int(slot), float(started), float(ended), int(place)) for slot, started, ended, place in rows]


def test_worker_runs_one_task_per_slot_and_starts_tasks_in_order(worker) -> None:
    tasks = [{"do": "span", "place": place} for place in range(300)]
    assert worker.run_tasks(*tasks, args=("--num-simultaneous-tasks", "2")).code == 0
    rows = sorted(spans(worker), key=lambda row: row[1])
    assert len(rows) == 300
    assert {slot for slot, *_ in rows} == {0, 1}
    for slot in (0, 1):
        own = [(started, ended) for of, started, ended, _ in rows if of == slot]
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))
    started = [event["task_id"] for event in worker.events("task_started")]
    assert started == [f"task-{number}" for number in range(300)]


def test_worker_runs_short_tasks_behind_a_long_one_in_the_other_slot(worker) -> None:
    quick = [{"do": "span", "place": place} for place in range(120)]
    long = {"do": "span", "place": 1000, "seconds": 3.0}
    assert worker.run_tasks(*quick[:60], long, *quick[60:], args=("--num-simultaneous-tasks", "2")).code == 0
    rows = spans(worker)
    assert len(rows) == 121
    assert rows[-1][3] == 1000


def test_worker_loses_no_short_task_when_the_fork_server_is_killed(worker) -> None:
    tasks = [QUICK] * 100 + [{"do": "kill parent"}] + [QUICK] * 100
    finished = worker.run_tasks(*tasks, args=("--num-simultaneous-tasks", "2"))
    assert finished.code == 0, finished.log
    completed = [event["task_id"] for event in worker.events("task_completed")]
    assert sorted(completed) == sorted(f"task-{number}" for number in range(201))
    assert 1 <= len(worker.events("task_released")) <= 2
    assert worker.nothing_is_left()


def test_worker_releases_tasks_that_no_slot_is_free_for_soon(worker) -> None:
    held = [{"do": "wait for shutdown"}] * 2
    worker.load(*[QUICK] * 60, *held, *[QUICK] * 40)
    process = worker.start_on_queue("--num-simultaneous-tasks", "2")
    wait_until(lambda: len(worker.noted("waiting")) == 2, what="both long tasks")
    wait_until(lambda: worker.queue().depth().visible == 40, what="the release of the surplus")
    assert process.poll() is None
    # Another worker receives them, without a counted interruption.
    others = worker.queue().receive(10, wait=timedelta(0))
    assert len(others) == 10
    assert {(each.delivery_count, decode_task_message(each.body).losses) for each in others} == {(1, 0)}
    process.terminate()
    assert worker.finish(process).code == 143
    assert len(worker.queued_events("task_completed")) == 62


# -- with other workers on the same queue


def deliveries(worker: Harness) -> dict[str, int | None]:
    """Return the number of deliveries of each task in the queue, including this one."""
    received = worker.queue().receive(100, wait=timedelta(0))
    return {decode_task_message(delivery.body).task_id: delivery.delivery_count for delivery in received}


def extended(worker: Harness, message: int) -> int:
    """Return the number of extensions of a message's leases."""
    return sum(lease.startswith(f"{message}/") for lease in worker.noted("extended"))


def take_over(worker: Harness, first: int) -> None:
    """Give the leases of all messages from ``first`` on to another consumer."""
    with contextlib.closing(sqlite3.connect(worker.folder / "job.sqlite", timeout=30)) as connection:
        connection.execute(
            "UPDATE messages SET lease = 'another', visible = ? WHERE id >= ?", (time.time() + 1000, first)
        )
        connection.commit()


def leases(worker: Harness, *tasks: str) -> list[tuple[str, str | None]]:
    """Return (task id, lease) of each message of these tasks."""
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
def test_shutdown_sends_no_copy_of_a_waiting_task_whose_lease_expired(worker, is_noticed) -> None:
    worker.load(*[QUICK] * 60, {"do": "wait"}, *[QUICK] * 3)
    process = worker.start_on_queue(
        *("--num-simultaneous-tasks", "1", "--lease", "1.5", "--shutdown-grace-period", "0", "--idle-limit", "60")
    )
    wait_until(lambda: worker.noted("waiting"))
    # Leases are extended every half second; waiting attempts are withdrawn before the second extension.
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
def test_retry_of_a_task_whose_lease_expired_is_left_to_the_queue(worker, do) -> None:
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


def test_worker_releases_tasks_that_take_longer_than_those_before(worker) -> None:
    worker.load(*[QUICK] * 80, *[{"do": "span", "seconds": 1.2, "place": place} for place in range(150)])
    process = worker.start_on_queue("--num-simultaneous-tasks", "2")
    wait_until(lambda: len(worker.noted("spans")) >= 2)
    wait_until(lambda: worker.queue().depth().in_flight <= 10, what="the release of most tasks")
    assert worker.queue().depth().visible >= 100
    process.kill()


def test_queue_consumer_releases_a_task_with_a_long_delay_without_an_interruption(tmp_path) -> None:
    queue = FolderQueue(tmp_path, "job")
    queue.create()
    message = TaskMessage(task_id="later", data={}, attempt=2, not_before=time.time() + 3600)
    queue.send([encode_task_message(message)])
    log, unused, dead = Log(verbose=False), list[PendingAttempt](), list[PendingAttempt]()
    consumer = QueueConsumer(
        queue,
        QueueTraits(
            max_message_bytes=100_000,
            send_batch=10,
            receive_batch=10,
            max_lease=timedelta(seconds=60),
            delay=timedelta(seconds=1),
            reports_delivery_count=True,
        ),
        LeaseExtender(queue, timedelta(seconds=60), log=log),
        slots=1,
        max_losses=0,
        on_malformed=print,
        on_dead=dead.append,
        on_unused=unused.extend,
        on_change=lambda: None,
        log=log,
    )
    consumer.start()
    consumer.request(1, mean_seconds=None)
    wait_until(lambda: unused)
    consumer.close()
    (released,) = unused
    assert (released.task_id, released.attempt, released.losses, dead) == ("later", 2, 0, [])
    assert released.not_before == pytest.approx(message.not_before)
