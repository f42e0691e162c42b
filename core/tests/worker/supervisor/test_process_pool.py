"""Processes that do several tasks each: faster, and what one task does is still no other's fault."""

from __future__ import annotations

import os
import select
import signal
from typing import Any

import pytest
from worker_harness import Harness, wait_until

from cloud_tasks.worker.common.ipc import Channel, socket_pair
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt, RunningAttempt
from cloud_tasks.worker.supervisor.process_pool import Ended, ProcessPool

REUSE = ("--reuse-processes", "1000")


class Template:
    """Makes processes that are this test: it holds the other ends of their sockets."""

    def __init__(self, *, slots: int = 2, reuse: int = 100) -> None:
        self.asked: list[int] = []
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.killed: list[int] = []
        self.ends: dict[int, Channel] = {}
        self._numbers = iter(range(1_000_000))
        self._poll = select.poll()
        self.pool = ProcessPool(
            self._poll,
            slots=slots,
            reuse=reuse,
            make=self.asked.append,
            on_begun=lambda running: self.begun.append(running.work.task_id),
            on_ended=self._on_ended,
            kill=self.killed.append,
        )

    def _on_ended(self, ended: Ended) -> None:
        self.ended.append(ended.running.work.task_id)

    def start(self, name: str) -> RunningAttempt:
        running = RunningAttempt(PendingAttempt(name, {}), next(self._numbers), "")
        self.pool.start(running)
        return running

    def make(self) -> None:
        for slot in self.asked:
            ours, theirs = socket_pair()
            self.ends[slot] = Channel(theirs, blocking=False)
            self.pool.made(slot, 1000 + slot, ours.detach())
        self.asked.clear()
        self.pool.flush()

    def received(self, slot: int) -> list[tuple[Any, ...]]:
        self.pool.flush()
        return self.ends[slot].get()

    def answer(self, slot: int, *numbers: int) -> None:
        for number in numbers:
            self.ends[slot].put((number, 0.001, False, b"", b""))
        self.ends[slot].flush()
        for descriptor, _ in self._poll.poll(0):
            self.pool.ready(descriptor)

    def close(self) -> None:
        for end in self.ends.values():
            end.close()
        self.pool.close()


@pytest.fixture
def template() -> Any:
    made: list[Template] = []

    def make(**options: int) -> Template:
        made.append(Template(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_nothing_is_sent_ahead_of_tasks_of_unknown_or_great_length(template) -> None:
    one = template(slots=2)
    for mean in (None, 1.0, 0.02):
        one.pool.expect(mean)
        assert one.pool.room <= 2
    one.start("a")
    one.start("b")
    assert (one.pool.room, one.begun) == (0, [])
    one.make()
    assert one.begun == ["b", "a"] or one.begun == ["a", "b"]


def test_short_tasks_are_sent_ahead_and_done_in_order(template) -> None:
    one = template(slots=1)
    one.pool.expect(0.001)
    names: list[str] = []
    while one.pool.room:
        names.append(f"task-{len(names)}")
        one.start(names[-1])
    assert 5 < len(names) < 20
    one.make()
    numbers = [message[0] for message in one.received(0)]
    assert numbers == list(range(len(names)))
    assert one.begun == names[:1]
    one.answer(0, *numbers[:3])
    assert (one.ended, one.begun) == (names[:3], names[:4])
    assert one.pool.room > 0


def test_a_process_gets_no_more_tasks_than_it_does(template) -> None:
    one = template(slots=1, reuse=3)
    one.pool.expect(0.0001)
    for name in "abc":
        assert one.pool.room
        one.start(name)
    assert not one.pool.room
    one.make()
    one.answer(0, 0, 1, 2)
    assert not one.pool.room
    assert one.pool.gone(0) == (None, [])
    assert one.pool.room == 1


def test_the_death_of_a_process_is_blamed_on_the_task_that_it_was_doing_alone(template) -> None:
    one = template(slots=1)
    one.pool.expect(0.001)
    started = [one.start(name) for name in "abcd"]
    one.make()
    # Its last words came before its end was known.
    one.ends[0].put((0, 0.001, False, b"", b""))
    one.ends[0].flush()
    one.ends[0].close()
    head, left = one.pool.gone(0)
    assert one.ended == ["a"]
    assert head is started[1]
    assert left == started[2:]


def test_a_signal_that_came_too_late_for_one_task_is_no_fault_of_the_next(template) -> None:
    one = template(slots=1)
    one.pool.expect(0.001)
    first, second, third = (one.start(name) for name in "abc")
    one.make()
    assert one.pool.doom(first) == 1000
    one.answer(0, 0)
    assert one.killed == [1000]
    assert not one.pool.room
    one.answer(0, 1)
    assert one.ended == ["a", "b"]
    assert one.pool.gone(0) == (None, [third])
    assert second.number == 1


def test_what_was_meant_for_a_process_that_never_came_is_given_back(template) -> None:
    one = template(slots=1)
    running = one.start("a")
    assert one.pool.all_gone() == [(None, [running])]
    assert one.pool.room == 1


def test_thousands_of_tasks_pass_through_few_processes(worker: Harness) -> None:
    finished = worker.run(*REUSE, "--num-simultaneous-tasks", "2", PROGRAM_TASKS="3000")
    assert finished.code == 0, finished.log[-2000:]
    ends = worker.events("task_completed")
    assert sorted(event["task_id"] for event in ends) == sorted(f"made-{n}" for n in range(3000))
    starts = worker.events("task_started")
    assert len(starts) == 3000
    assert 3 <= len({event["pid"] for event in starts}) <= 5
    order = [(event["task_id"], event["event_type"]) for event in worker.events("task_started", "task_completed")]
    assert all(
        order.index((f"made-{n}", "task_started")) < order.index((f"made-{n}", "task_completed"))
        for n in range(0, 3000, 300)
    )


def test_tasks_behind_one_that_kills_its_process_are_done_all_the_same(worker: Harness) -> None:
    tasks: list[dict[str, Any]] = [{"do": "nothing"} for _ in range(300)]
    for place in (50, 51, 150, 250):
        tasks[place] = {"do": "exit", "code": 9}
    tasks[200] = {"do": "hang"}
    finished = worker.run_tasks(*tasks, args=(*REUSE, "--num-simultaneous-tasks", "2", "--max-runtime", "2"))
    assert finished.code == 0, finished.log[-2000:]
    ends = worker.events("task_completed", "task_exited", "task_timed_out", "task_exception", "task_released")
    kinds = {event["task_id"]: event["event_type"] for event in ends}
    assert len(ends) == len(kinds) == 300
    assert [kinds[f"task-{n}"] for n in (50, 51, 150, 250)] == ["task_exited"] * 4
    assert kinds["task-200"] == "task_timed_out"
    assert list(kinds.values()).count("task_completed") == 295
    assert worker.nothing_is_left()


def test_output_of_each_failure_is_its_own(worker: Harness) -> None:
    worker.run_tasks(
        {"do": "print"}, {"do": "nothing"}, {"do": "raise"}, args=(*REUSE, "--capture-output"), PROGRAM_TASKS="1"
    )
    first, second = worker.events("task_exception")
    assert "these are my last words\n" in first["log_tail"]
    assert "last words" not in second["log_tail"]


def test_scratch_folders_of_reused_processes_end_with_their_attempts(worker: Harness) -> None:
    worker.run_tasks({"do": "scratch"}, {"do": "scratch"}, args=REUSE)
    first, second = (event["result"] for event in worker.events("task_completed"))
    assert first != second
    assert not os.path.exists(first)
    assert worker.nothing_is_left()


def test_slots_and_devices_are_those_of_the_process(worker: Harness) -> None:
    worker.run_tasks({"do": "about"}, args=(*REUSE, "--gpus-per-task", "2"))
    about = worker.events("task_completed")[0]["result"]
    assert (about["slot"], about["gpu"]) == (0, "0,1")


def test_a_shutdown_releases_what_was_sent_ahead(worker: Harness) -> None:
    worker.load(*({"do": "nothing"} for _ in range(200)), {"do": "wait"}, *({"do": "nothing"} for _ in range(50)))
    process = worker.start_on_queue(*REUSE, "--shutdown-grace-period", "0.2")
    wait_until(lambda: worker.noted("waiting"))
    process.send_signal(signal.SIGTERM)
    assert worker.finish(process).code == 143
    done = {event["task_id"] for event in worker.queued_events("task_completed")}
    assert len(done) == 200
    # All the rest can be had by others at once.
    assert worker.queue().depth().visible == 51


def test_a_template_that_dies_takes_its_processes_along_and_nothing_is_lost(worker: Harness) -> None:
    finished = worker.run_tasks(
        *({"do": "nothing"} for _ in range(100)), {"do": "kill parent"}, *({"do": "nothing"} for _ in range(100)),
        args=(*REUSE, "--num-simultaneous-tasks", "2"),
    )  # fmt: skip
    assert finished.code == 0, finished.log[-2000:]
    assert len({event["task_id"] for event in worker.events("task_completed")}) == 201
    assert worker.nothing_is_left()
