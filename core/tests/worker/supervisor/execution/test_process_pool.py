"""Processes that run several tasks each: the failure of one task affects no other."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from worker_harness import Harness, run_program, wait_until

from cloud_tasks.worker.common.ipc import Channel, socket_pair
from cloud_tasks.worker.consumers.attempt_types import PendingAttempt, RunningAttempt
from cloud_tasks.worker.supervisor.event_loop import EventLoop
from cloud_tasks.worker.supervisor.execution.process_pool import ProcessPool

REUSE = ("--reuse-processes", "1000")


class ForkServer:
    """Starts processes that the test plays: it holds the other ends of their sockets."""

    def __init__(self, *, slots: int = 2, reuse: int = 100) -> None:
        self.requested: list[int] = []
        self.started: list[str] = []
        self.ended: list[str] = []
        self.killed: list[int] = []
        self.ends: dict[int, Channel] = {}
        self._numbers = iter(range(1_000_000))
        self.loop = EventLoop()
        self.pool = ProcessPool(
            self.loop,
            slots=slots,
            reuse=reuse,
            start_process=self.requested.append,
            on_started=lambda attempt: self.started.append(attempt.work.task_id),
            on_ended=lambda attempt, *_: self.ended.append(attempt.work.task_id),
            kill=self.killed.append,
        )

    def submit(self, name: str) -> RunningAttempt:
        attempt = RunningAttempt(PendingAttempt(name, {}), next(self._numbers), "")
        self.pool.submit(attempt)
        return attempt

    def start_processes(self) -> None:
        for slot in self.requested:
            ours, theirs = socket_pair()
            self.ends[slot] = Channel(theirs, blocking=False)
            self.pool.connect(slot, 1000 + slot, ours.detach())
        self.requested.clear()
        self.pool.flush()

    def received(self, slot: int) -> list[tuple[Any, ...]]:
        self.pool.flush()
        return self.ends[slot].get()

    def answer(self, slot: int, *numbers: int) -> None:
        for number in numbers:
            self.ends[slot].put((number, 0.001, False, b"", b""))
        self.ends[slot].flush()
        self.loop.run_once(0)

    def close(self) -> None:
        for end in self.ends.values():
            end.close()
        self.pool.close()
        self.loop.close()


@pytest.fixture
def forkserver() -> Any:
    created: list[ForkServer] = []

    def create(**options: int) -> ForkServer:
        created.append(ForkServer(**options))
        return created[-1]

    yield create
    for server in created:
        server.close()


def test_process_pool_prefetches_no_tasks_of_unknown_or_long_duration(forkserver) -> None:
    server = forkserver(slots=2)
    for mean in (None, 1.0, 0.02):
        server.pool.expect(mean)
        assert server.pool.capacity <= 2
    server.submit("a")
    server.submit("b")
    assert (server.pool.capacity, server.started) == (0, [])
    server.start_processes()
    assert server.started == ["b", "a"] or server.started == ["a", "b"]


def test_process_pool_prefetches_short_tasks_in_order(forkserver) -> None:
    server = forkserver(slots=1)
    server.pool.expect(0.001)
    names: list[str] = []
    while server.pool.capacity:
        names.append(f"task-{len(names)}")
        server.submit(names[-1])
    assert 5 < len(names) < 20
    server.start_processes()
    numbers = [message[0] for message in server.received(0)]
    assert numbers == list(range(len(names)))
    assert server.started == names[:1]
    server.answer(0, *numbers[:3])
    assert (server.ended, server.started) == (names[:3], names[:4])
    assert server.pool.capacity > 0


def test_process_pool_sends_a_process_at_most_its_number_of_tasks(forkserver) -> None:
    server = forkserver(slots=1, reuse=3)
    server.pool.expect(0.0001)
    for name in "abc":
        assert server.pool.capacity
        server.submit(name)
    assert not server.pool.capacity
    server.start_processes()
    server.answer(0, 0, 1, 2)
    assert not server.pool.capacity
    assert server.pool.remove(0) == (None, [])
    assert server.pool.capacity == 1


def test_process_pool_fails_only_the_running_task_of_a_dead_process(forkserver) -> None:
    server = forkserver(slots=1)
    server.pool.expect(0.001)
    started = [server.submit(name) for name in "abcd"]
    server.start_processes()
    # Its last report arrived before its end was known.
    server.ends[0].put((0, 0.001, False, b"", b""))
    server.ends[0].flush()
    server.ends[0].close()
    current, unstarted = server.pool.remove(0)
    assert server.ended == ["a"]
    assert current is started[1]
    assert unstarted == started[2:]


def test_process_pool_returns_the_next_task_after_a_late_signal(forkserver) -> None:
    server = forkserver(slots=1)
    server.pool.expect(0.001)
    first, second, third = (server.submit(name) for name in "abc")
    server.start_processes()
    assert server.pool.mark_signalled(first) == 1000
    server.answer(0, 0)
    assert server.killed == [1000]
    assert not server.pool.capacity
    server.answer(0, 1)
    assert server.ended == ["a", "b"]
    assert server.pool.remove(0) == (None, [third])
    assert second.number == 1


def test_process_pool_returns_tasks_of_a_process_that_never_started(forkserver) -> None:
    server = forkserver(slots=1)
    attempt = server.submit("a")
    assert server.pool.reset() == [(None, [attempt])]
    assert server.pool.capacity == 1


def test_reused_processes_run_thousands_of_tasks(worker: Harness) -> None:
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


def test_reused_processes_rerun_tasks_behind_one_that_kills_its_process(worker: Harness) -> None:
    tasks: list[dict[str, Any]] = [{"do": "nothing"} for _ in range(300)]
    for place in (50, 51, 150, 250):
        tasks[place] = {"do": "exit", "code": 9}
    tasks[200] = {"do": "hang"}
    finished = worker.run_tasks(*tasks, args=(*REUSE, "--num-simultaneous-tasks", "2", "--max-runtime", "2"))
    assert finished.code == 3, finished.log[-2000:]
    ends = worker.events("task_completed", "task_exited", "task_timed_out", "task_exception", "task_released")
    kinds = {event["task_id"]: event["event_type"] for event in ends}
    assert len(ends) == len(kinds) == 300
    assert [kinds[f"task-{n}"] for n in (50, 51, 150, 250)] == ["task_exited"] * 4
    assert kinds["task-200"] == "task_timed_out"
    assert list(kinds.values()).count("task_completed") == 295
    assert worker.nothing_is_left()


def test_reused_processes_report_the_output_of_each_failure_separately(worker: Harness) -> None:
    worker.run_tasks(
        {"do": "print"}, {"do": "nothing"}, {"do": "raise"}, args=(*REUSE, "--capture-output"), PROGRAM_TASKS="1"
    )
    first, second = worker.events("task_exception")
    assert "these are my last words\n" in first["log_tail"]
    assert "last words" not in second["log_tail"]


def test_reused_processes_remove_the_scratch_folder_of_each_attempt(worker: Harness) -> None:
    worker.run_tasks({"do": "scratch"}, {"do": "scratch"}, args=REUSE)
    first, second = (event["result"] for event in worker.events("task_completed"))
    assert first != second
    assert not os.path.exists(first)
    assert worker.nothing_is_left()


def test_reused_processes_have_the_slot_and_devices_of_their_process(worker: Harness) -> None:
    worker.run_tasks({"do": "about"}, args=(*REUSE, "--gpus-per-task", "2"))
    about = worker.events("task_completed")[0]["result"]
    assert (about["slot"], about["gpu"]) == (0, "0,1")


def test_reused_processes_release_prefetched_tasks_on_a_shutdown(worker: Harness) -> None:
    worker.load(*({"do": "nothing"} for _ in range(200)), {"do": "wait"}, *({"do": "nothing"} for _ in range(50)))
    process = worker.start_on_queue(*REUSE, "--shutdown-grace-period", "0.2")
    wait_until(lambda: worker.noted("waiting"))
    process.send_signal(signal.SIGTERM)
    assert worker.finish(process).code == 143
    done = {event["task_id"] for event in worker.queued_events("task_completed")}
    assert len(done) == 200
    # Other workers can receive the rest at once.
    assert worker.queue().depth().visible == 51


def test_reused_processes_lose_no_task_when_the_fork_server_dies(worker: Harness) -> None:
    finished = worker.run_tasks(
        *({"do": "nothing"} for _ in range(100)), {"do": "kill parent"}, *({"do": "nothing"} for _ in range(100)),
        args=(*REUSE, "--num-simultaneous-tasks", "2"),
    )  # fmt: skip
    assert finished.code == 0, finished.log[-2000:]
    assert len({event["task_id"] for event in worker.events("task_completed")}) == 201
    assert worker.nothing_is_left()


def test_process_that_sends_garbage_is_killed_and_gets_no_more_tasks(forkserver) -> None:
    server = forkserver(slots=2)
    first, second = server.submit("a"), server.submit("b")
    server.start_processes()
    server.answer(0, first.number)
    server.ends[0]._end.send(b"x\n" * 8)
    server.ends[1]._end.send(b"x\n")
    server.answer(1, second.number)
    assert sorted(server.killed) == [1000, 1001]
    assert server.ended == ["a"]
    assert server.pool.remove(0) == (None, [])
    assert server.pool.remove(1) == (None, [])
    assert server.ended == ["a", "b"]


@pytest.mark.parametrize("message", [(0,), "text", (7, 0.1, False, b"", b""), None])
def test_process_that_sends_another_message_fails_its_task_only(forkserver, message) -> None:
    server = forkserver(slots=1)
    server.pool.expect(0.001)
    server.submit("a")
    server.submit("b")
    server.start_processes()
    server.ends[0].put(message)
    server.ends[0].flush()
    server.loop.run_once(0)
    assert server.killed == [1000]
    current, unstarted = server.pool.remove(0)
    assert (current, [attempt.work.task_id for attempt in unstarted], server.ended) == (None, ["b"], ["a"])


KILLS_PARENT = """
def f(task_id, data, worker_data):
    if task_id == "task-0" and not Path("killed").exists():
        time.sleep(0.5)
        Path("killed").touch()
        os.kill(os.getppid(), 9)
        time.sleep(60)
    return 7
"""


def test_reported_results_outlive_the_fork_server(worker) -> None:
    finished = run_program(worker, KILLS_PARENT, *REUSE, "--num-simultaneous-tasks", "2", tasks=20)
    assert finished.code == 0, finished.log
    completed = [event["task_id"] for event in worker.events("task_completed")]
    assert sorted(completed) == sorted(f"task-{number}" for number in range(20))
    assert worker.events("task_exited", "task_exception", "task_dead", "fatal_exception") == []
