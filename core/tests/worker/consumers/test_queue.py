"""Workers with a queue: events are durable before an ack, no task is lost, and retries are limited."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

import pytest
from worker_harness import Harness, wait_until

from cloud_tasks.convert import encode_task_message
from cloud_tasks.model import TaskMessage

FINAL = ("task_completed", "task_exception", "task_exited", "task_timed_out", "task_dead")


def depth(worker: Harness) -> tuple[int | None, int | None]:
    found = worker.queue().depth()
    return found.visible, found.in_flight


def history(worker: Harness, task_id: str) -> list[tuple[str, Any, Any]]:
    return [
        (event["event_type"], event["attempt"], event.get("retry"))
        for event in worker.queued_events()
        if event.get("task_id") == task_id
    ]


def test_worker_finishes_every_task_of_a_queue_and_reports_it_once(worker) -> None:
    worker.load(*({"do": "nothing"} for _ in range(200)))
    finished = worker.run_on_queue("--num-simultaneous-tasks", "4")
    assert finished.code == 0, finished.log
    assert depth(worker) == (0, 0)
    completed = worker.queued_events("task_completed")
    assert sorted(event["task_id"] for event in completed) == sorted(f"task-{n}" for n in range(200))
    assert {event["instance_id"] for event in worker.queued_events()} == {"machine-7"}
    ids = [event["event_id"] for event in worker.queued_events()]
    assert len(set(ids)) == len(ids)
    kinds = [event["event_type"] for event in worker.queued_events()]
    assert (kinds[0], kinds[-1]) == ("worker_started", "worker_stopped")
    assert "Started, processing" not in finished.log


def test_worker_rejects_exactly_once_for_a_queue_without_the_trait(worker) -> None:
    finished = worker.run_on_queue("--exactly-once-queue")
    assert finished.code == 2
    assert '--exactly-once-queue: queue "folder" does not support exactly-once delivery; remove it' in finished.log


def test_worker_without_the_name_of_a_queue_names_the_remedy(worker) -> None:
    worker.load({"do": "nothing"})
    finished = worker.run_on_queue(CLOUD_TASKS_QUEUE_NAME="", CLOUD_TASKS_JOB_ID="job")
    assert finished.code == 2
    expected = (
        "--queue-name: no queue given: each run of job job has queues with names of their own; give the full name"
    )
    assert expected in finished.log
    assert "`cloud-tasks status --job-id job`" in finished.log
    assert depth(worker) == (1, 0)


def test_worker_sends_events_to_a_queue_of_another_name(worker) -> None:
    worker.load({"do": "nothing"})
    other = worker.queue("other-events")
    finished = worker.run_on_queue("--event-log-queue-name", "other-events")
    assert finished.code == 0, finished.log
    assert other.depth().visible > 0
    assert worker.queued_events() == []


def test_exactly_once_is_ignored_for_the_event_queue(worker) -> None:
    worker.load()
    environment = {"CLOUD_TASKS_PROVIDER": "folder", "CLOUD_TASKS_QUEUE_NAME": "job"}
    finished = worker.run_tasks({"do": "nothing"}, args=("--exactly-once-queue", "--event-log-to-queue"), **environment)
    assert finished.code == 0, finished.log
    assert len(worker.queued_events("task_completed")) == 1


def test_failed_tasks_are_retried_up_to_the_limit_and_then_dead(worker) -> None:
    worker.load({"do": "raise"}, {"do": "raise until", "attempts": 3}, {"do": "exit", "code": 9})
    worker.run_on_queue("--retry-on-exception", "--max-attempts", "3", "--backoff-base", "0.05")
    assert depth(worker) == (0, 0)
    assert history(worker, "task-0") == [
        ("task_started", 1, None), ("task_exception", 1, True),
        ("task_started", 2, None), ("task_exception", 2, True),
        ("task_started", 3, None), ("task_exception", 3, False), ("task_dead", 3, False),
    ]  # fmt: skip
    assert history(worker, "task-1")[-1] == ("task_completed", 3, False)
    assert history(worker, "task-2") == [("task_started", 1, None), ("task_exited", 1, False)]


def test_failure_that_is_not_retried_leaves_no_dead_task_whatever_its_attempt_number(worker) -> None:
    """An attempt number above 1: the task was rerun, or its first attempt failed in a way that is retried."""
    body = encode_task_message(TaskMessage(task_id="again", data={"do": "exit", "code": 9}, attempt=4))
    worker.load()
    worker.queue().send([body])
    worker.run_on_queue("--retry-on-exception")
    assert history(worker, "again") == [("task_started", 4, None), ("task_exited", 4, False)]


def test_tasks_that_request_a_retry_are_limited_by_max_attempts(worker) -> None:
    worker.load({"do": "retry until", "attempts": 2}, {"do": "retry until", "attempts": 99}, {"do": "raise Retry"})
    worker.run_on_queue("--backoff-base", "0.05", "--max-attempts", "4")
    assert [entry for entry in history(worker, "task-0") if entry[0] != "task_started"] == [
        ("task_completed", 1, True),
        ("task_completed", 2, False),
    ]
    assert history(worker, "task-1")[-1] == ("task_dead", 4, False)
    assert history(worker, "task-2")[-1] == ("task_completed", 2, False)


def test_retry_rules_match_exit_codes_and_exception_classes(worker) -> None:
    rules = '[{"on": "exit", "codes": [137], "attempts": 2}, {"on": "exception", "types": ["OSError"], "attempts": 3}]'
    worker.load(
        {"do": "exit", "code": 137}, {"do": "exit", "code": 5}, {"do": "raise until", "attempts": 3}, {"do": "raise"}
    )
    worker.run_on_queue("--backoff-base", "0.05", CLOUD_TASKS_RETRY_RULES=rules)
    assert [entry for entry in history(worker, "task-0") if entry[0] == "task_exited"] == [
        ("task_exited", 1, True),
        ("task_exited", 2, False),
    ]
    assert history(worker, "task-1")[-1] == ("task_exited", 1, False)
    assert history(worker, "task-2")[-1] == ("task_completed", 3, False)
    assert history(worker, "task-3")[-1] == ("task_exception", 1, False)


def test_malformed_messages_are_reported_and_acked(worker) -> None:
    worker.load({"do": "nothing"})
    worker.queue().send([b"junk", b"[]", b'{"task_id": 7}'])
    finished = worker.run_on_queue()
    assert finished.code == 0
    assert depth(worker) == (0, 0)
    assert len(worker.queued_events("non_fatal_exception")) == 3
    assert len(worker.queued_events("task_completed")) == 1


def test_outage_of_the_event_queue_delays_acks_and_loses_no_event(worker) -> None:
    worker.load(*({"do": "nothing"} for _ in range(20)))
    fault = worker.fault("job-events.send")
    process = worker.start_on_queue("--num-simultaneous-tasks", "2", CLOUD_TASKS_IDLE_LIMIT="2")
    wait_until(lambda: depth(worker)[0] == 0 and len(worker.noted("refused")) >= 2)
    assert depth(worker) == (0, 20)
    fault.unlink()
    finished = worker.finish(process)
    assert finished.code == 0
    assert depth(worker) == (0, 0)
    assert len(worker.queued_events("task_completed")) == 20
    assert "cannot send events" in finished.log


def test_failed_receives_acks_and_sends_are_repeated(worker) -> None:
    worker.load({"do": "raise until", "attempts": 2}, {"do": "nothing"})
    faults = [worker.fault(f"job.{call}") for call in ("receive", "send", "ack")]
    process = worker.start_on_queue("--retry-on-exception", "--backoff-base", "0.05", CLOUD_TASKS_IDLE_LIMIT="5")
    for fault in faults:
        wait_until(lambda: (worker.folder / "job-events.sqlite").exists())
        fault.unlink()
    assert worker.finish(process).code == 0
    assert depth(worker) == (0, 0)
    assert history(worker, "task-0")[-1] == ("task_completed", 2, False)


def test_lease_is_extended_while_its_task_runs(worker) -> None:
    worker.load({"do": "sleep", "seconds": 2.5})
    worker.run_on_queue("--lease", "1")
    assert [entry[0] for entry in history(worker, "task-0")] == ["task_started", "task_completed"]
    assert len(worker.noted("extended")) >= 3
    assert depth(worker) == (0, 0)


def test_expired_lease_is_logged_and_the_late_result_reported(worker) -> None:
    worker.load({"do": "sleep", "seconds": 3})
    process = worker.start_on_queue("--lease", "1", CLOUD_TASKS_IDLE_LIMIT="60", CLOUD_TASKS_MAX_LIFETIME="6")
    wait_until(lambda: worker.queued_events("task_started"))
    worker.queue().purge()
    finished = worker.finish(process)
    assert "1 lease expired early" in finished.log
    event = worker.queued_events("task_completed")[0]
    assert (event["attempt"], event["lease_lost"]) == (1, True)


def test_task_with_too_many_interrupted_attempts_is_dead_on_receipt(worker) -> None:
    worker.load({"do": "nothing"})
    queue = worker.queue()
    for _ in range(3):
        queue.release([delivery.lease_id for delivery in queue.receive(1, wait=timedelta(seconds=5))])
    worker.run_on_queue("--max-losses", "2")
    assert history(worker, "task-0") == [("task_dead", 1, False)]
    assert depth(worker) == (0, 0)


def test_shutdown_gives_running_tasks_the_grace_period_and_releases_the_rest(worker) -> None:
    worker.load({"do": "wait for shutdown"}, {"do": "wait"}, *({"do": "nothing"} for _ in range(10)))
    process = worker.start_on_queue("--num-simultaneous-tasks", "2", "--shutdown-grace-period", "1")
    wait_until(lambda: len(worker.noted("waiting")) == 2)
    process.send_signal(signal.SIGTERM)
    finished = worker.finish(process)
    assert finished.code == 143
    assert history(worker, "task-0")[-1] == ("task_completed", 1, False)
    assert history(worker, "task-1")[-1][0] == "task_released"
    assert depth(worker) == (11, 0)
    assert worker.queued_events()[-1]["event_type"] == "worker_stopped"
    assert worker.nothing_is_left()


def test_second_signal_ends_the_worker_at_once(worker) -> None:
    worker.load({"do": "wait"})
    process = worker.start_on_queue("--shutdown-grace-period", "1000")
    wait_until(lambda: worker.noted("waiting"))
    process.send_signal(signal.SIGINT)
    wait_until(lambda: any(entry[0] == "task_started" for entry in history(worker, "task-0")))
    process.send_signal(signal.SIGINT)
    assert worker.finish(process).code == 130
    assert history(worker, "task-0")[-1][0] == "task_released"
    assert depth(worker) == (1, 0)


def test_termination_notice_reaches_tasks_and_callback(worker) -> None:
    worker.load({"do": "wait for shutdown"}, {"do": "nothing"})
    process = worker.start_on_queue("--notice-interval", "0.1")
    wait_until(lambda: worker.noted("waiting"))
    (worker.folder / "notice").touch()
    finished = worker.finish(process)
    assert finished.code == 0
    assert worker.queued_events("spot_termination")[0]["reason"] == "the folder says so"
    assert worker.queued_events("task_completed")[0]["result"] == {"notice": True}
    assert worker.noted("noticed") == ["yes"]


def test_simulated_termination_releases_running_tasks(worker) -> None:
    worker.load({"do": "wait"})
    finished = worker.run_on_queue("--simulate-spot-termination-after", "1", "--simulate-spot-termination-delay", "0.5")
    assert finished.code == 0
    assert [event["event_type"] for event in worker.queued_events("spot_termination", "task_released")] == [
        "spot_termination",
        "task_released",
    ]


def test_heartbeats_have_the_number_of_running_tasks(worker) -> None:
    worker.load({"do": "sleep", "seconds": 1})
    worker.run_on_queue("--keepalive-interval", "0.2", "--num-simultaneous-tasks", "2")
    seen = [event["running_tasks"] for event in worker.queued_events("keep_alive")]
    assert 1 in seen
    assert {event["slots"] for event in worker.queued_events("keep_alive")} == {2}


def test_killed_worker_loses_no_task(worker) -> None:
    worker.load(*({"do": "sleep", "seconds": 0.05} for _ in range(60)))
    process = worker.start_on_queue("--num-simultaneous-tasks", "2", "--lease", "1")
    wait_until(lambda: len(worker.queued_events("task_completed")) >= 5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(worker.nothing_is_left)
    assert worker.run_on_queue("--lease", "1", CLOUD_TASKS_IDLE_LIMIT="2").code == 0
    assert {event["task_id"] for event in worker.queued_events("task_completed")} == {f"task-{n}" for n in range(60)}
    assert depth(worker) == (0, 0)


def test_result_that_exceeds_the_event_queue_limit_fails_its_task(worker) -> None:
    worker.load(
        {"do": "big", "size": 300_000}, {"do": "big", "size": 200_000}, {"do": "raise", "message": "\0" * 60_000}
    )
    worker.run_on_queue()
    assert worker.queued_events("task_exception")[0]["exception_type"] == "ResultTooLong"
    assert [event["task_id"] for event in worker.queued_events("task_completed")] == ["task-1"]
    assert history(worker, "task-2")[-1] == ("task_exception", 1, False)


@pytest.mark.parametrize("call", ["receive", "ack", "send"])
def test_worker_ends_if_the_task_queue_refuses_it(worker, call) -> None:
    worker.load({"do": "nothing"} if call != "send" else {"do": "raise", "message": "for a retry"})
    (worker.folder / f"job.{call}.refuses").touch()
    finished = worker.run_on_queue("--flush-period", "2", "--retry-on-exception")
    assert finished.code == 1
    reason = f"the task queue refuses this worker: {call}: authorization violation"
    assert f"Fatal: {reason}" in finished.log
    assert [event["exception"] for event in worker.queued_events("fatal_exception")] == [reason]
    assert worker.queued_events("worker_stopped")[-1]["exit_code"] == 1
    if call != "receive":
        assert [event["task_id"] for event in worker.queued_events("task_completed")] == ["task-0"] * (call != "send")
        assert depth(worker) != (0, 0), "the queue delivers the task again"


def test_worker_ends_if_the_event_queue_refuses_it(worker) -> None:
    worker.load({"do": "nothing"})
    (worker.folder / "job-events.send.refuses").touch()
    finished = worker.run_on_queue("--flush-period", "0.5")
    assert finished.code == 1
    assert "Fatal: the event queue refuses this worker: send: authorization violation" in finished.log
