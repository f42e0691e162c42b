"""Comparison of instances: one that fails what others complete is terminated, and its tasks run again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import attrs
import pytest
from controller_fakes import NOW, event, make_instance, make_observation, message
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cloud_tasks.controller.autoscaler.actions import Abort, Discard, Finish, Launch, Warn
from cloud_tasks.controller.autoscaler.attempt_ends import AttemptEnds
from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.failed_instances import FailedInstances
from cloud_tasks.controller.autoscaler.rules.comparison import failing_instances
from cloud_tasks.controller.autoscaler.state import InstanceEnds
from cloud_tasks.model import EventType, JobPhase, TaskStatus

REASON = "exit code 1"


def ended(ends: int, failures: int, *, seconds_ago: float = 0) -> InstanceEnds:
    reason = REASON if failures else ""
    return InstanceEnds(ends=ends, failures=failures, reason=reason, last_end=NOW - timedelta(seconds=seconds_ago))


# -- the rule


def test_comparison_names_the_instance_that_fails_what_others_complete() -> None:
    ends = {"bad": ended(50, 50), "good": ended(30, 0), "slow": ended(2, 1)}
    assert failing_instances(ends) == {
        "bad": "50 of its last 50 attempts failed, elsewhere 31 of 32 completed; most frequent reason: exit code 1"
    }


@pytest.mark.parametrize(
    "ends",
    [
        {"only": ended(50, 50)},
        {"bad": ended(9, 9), "good": ended(50, 0)},
        {"bad": ended(50, 50), "good": ended(9, 0)},
        {"bad": ended(50, 50), "bad too": ended(50, 50)},
        {"bad": ended(50, 45), "good": ended(50, 0)},
        {"bad": ended(50, 50), "half": ended(50, 25)},
    ],
)
def test_comparison_judges_no_instance_without_sufficient_evidence(ends: Mapping[str, InstanceEnds]) -> None:
    assert failing_instances(ends) == {}


_ends = st.integers(0, 50).flatmap(lambda ends: st.builds(ended, st.just(ends), st.integers(0, ends)))


@given(st.dictionaries(st.text(max_size=2), _ends, max_size=6))
def test_comparison_leaves_a_job_alone_whose_tasks_fail_everywhere(ends: Mapping[str, InstanceEnds]) -> None:
    found = failing_instances(ends)
    assert all(ends[name].failures > 0.9 * ends[name].ends >= 9 for name in found)
    if found:
        others = [own for name, own in ends.items() if name not in found]
        assert sum(own.ends - own.failures for own in others) > 5
    if all(own.failures * 2 >= own.ends for own in ends.values()):
        assert found == {}


def test_decide_discards_a_failing_instance_once() -> None:
    ends = {"i-1": ended(50, 50), "i-2": ended(50, 0)}
    first, *_ = decide(make_observation(make_instance(1), make_instance(2), attempt_ends=ends, remaining=16))
    assert isinstance(first, Discard)
    assert (first.instance_id, first.is_alive) == ("i-1", True)
    again = decide(
        make_observation(
            make_instance(1), make_instance(2), attempt_ends=ends, remaining=16, discarded=frozenset({"i-1"})
        )
    )
    assert not any(isinstance(action, Discard) for action in again)


def test_decide_does_not_judge_an_instance_whose_present_tasks_last_longer_than_its_failures() -> None:
    ends = {"i-1": ended(50, 50, seconds_ago=90), "i-2": ended(50, 0)}
    fleet = (make_instance(1, running_tasks=8), make_instance(2))
    assert not any(isinstance(action, Discard) for action in decide(make_observation(*fleet, attempt_ends=ends)))


def test_decide_discards_a_limited_number_of_instances() -> None:
    ends = {f"i-{number}": ended(50, 50) for number in range(9)} | {"good": ended(50, 0)}
    actions = decide(make_observation(attempt_ends=ends))
    assert sum(isinstance(action, Discard) for action in actions) == 5


def test_decide_discards_a_failing_instance_before_the_job_is_complete() -> None:
    ends = {"i-1": ended(50, 50), "i-2": ended(50, 0)}
    (action,) = decide(make_observation(make_instance(2), attempt_ends=ends, remaining=0))
    assert isinstance(action, Discard)
    assert not action.is_alive
    finished = decide(make_observation(attempt_ends=ends, remaining=0, discarded=frozenset({"i-1"})))
    assert finished == (Finish(),)


def test_decide_aborts_a_run_whose_workers_end_with_an_error_before_any_task_finishes() -> None:
    facts = {"failed_workers": 3, "worker_error": "no room"}
    failed = FailedInstances(without_progress=3, with_error=3)
    (action,) = decide(make_observation(make_instance(1), failed_instances=failed, **facts))
    assert isinstance(action, Abort)
    assert action.reason.endswith("ended with an error before any task finished: no room")
    assert not any(
        isinstance(a, Abort)
        for a in decide(make_observation(failed_instances=attrs.evolve(failed, with_error=2), **facts))
    )


@pytest.mark.parametrize(("working", "launches"), [(0, False), (5, False), (6, True)])
def test_decide_does_not_replace_workers_that_keep_ending_with_an_error(working: int, launches: bool) -> None:
    ends = {f"w-{number}": ended(50, 0) for number in range(working)}
    facts = {"failed_workers": 6, "worker_error": "no room", "attempt_ends": ends}
    actions = decide(make_observation(make_instance(1), **facts))
    assert any(isinstance(action, Launch) for action in actions) is launches
    assert launches or [type(action) for action in actions] == [Warn]
    if not launches:
        (action,) = decide(make_observation(**facts))
        assert isinstance(action, Abort)
        assert action.reason == "the workers of 6 instances ended with an error: no room"


# -- the ends


def test_attempt_ends_count_a_repeated_event_once_and_remember_the_latest() -> None:
    ends = AttemptEnds()
    failure = event(EventType.TASK_EXITED, 1, task=1, instance_id="i-1", details={"exit_code": 1})
    assert ends.add([failure, failure], NOW)
    assert ends.counts()["i-1"].ends == 1
    assert not ends.add([event(EventType.TASK_COMPLETED, n, task=n, instance_id="i-1") for n in range(2, 102)], NOW)
    assert (ends.counts()["i-1"].ends, ends.counts()["i-1"].failures) == (50, 0)


def test_attempt_ends_count_failures_of_the_worker_and_no_other_interruption() -> None:
    ends = AttemptEnds()
    details = {"own_failure": True, "cause": "cannot write the output of the task: No space left on device (ENOSPC)"}
    ends.add(
        [
            event(EventType.TASK_RELEASED, 1, task=1, instance_id="i-1", details=details),
            event(EventType.TASK_RELEASED, 2, task=2, instance_id="i-1", details={"cause": "the worker was shut down"}),
            event(EventType.TASK_EXCEPTION, 3, task=3, instance_id="i-1", details={"exception_type": "OSError"}),
            event(EventType.TASK_TIMED_OUT, 4, task=4, instance_id="i-1"),
            event(EventType.TASK_EXITED, 5, task=5),
        ],
        NOW,
    )
    assert (ends.counts()["i-1"].ends, ends.counts()["i-1"].failures) == (3, 3)
    assert "i-2" not in ends.counts()


# -- the controller


def test_controller_replaces_an_instance_that_fails_what_another_completes(
    loop, store, compute, events, make_controller, capsys
) -> None:
    controller = make_controller()

    def fail_and_complete() -> None:
        for number in range(10):
            exited = {"task": number, "instance_id": "i-1", "details": {"exit_code": 1}}
            events.inbox.append(message(event(EventType.TASK_EXITED, number, **exited)))
            done = {"task": 10 + number, "instance_id": "i-2"}
            events.inbox.append(message(event(EventType.TASK_COMPLETED, 50 + number, **done)))

    def complete_the_rest() -> None:
        assert store.summary().counts[TaskStatus.EXITED] == 0
        assert "i-1" not in compute.existing
        for number in range(10):
            done = {"task": number, "instance_id": "i-2", "attempt": 2}
            events.inbox.append(message(event(EventType.TASK_COMPLETED, 100 + number, **done)))

    loop.later(timedelta(seconds=70), fail_and_complete)
    loop.later(timedelta(seconds=90), complete_the_rest)
    assert controller.run() is JobPhase.COMPLETE
    assert store.summary().counts[TaskStatus.COMPLETED] == 20
    assert len(compute.launched) == 3


def test_controller_reruns_tasks_that_a_discarded_instance_fails_later(loop, store, events, make_controller) -> None:
    controller = make_controller()

    def fail(first: int, last: int) -> None:
        for number in range(first, last):
            exited = {"task": number, "instance_id": "i-1", "details": {"exit_code": 1}}
            events.inbox.append(message(event(EventType.TASK_EXITED, number, **exited)))

    def complete(numbers: range, attempt: int) -> None:
        for number in numbers:
            done = {"task": number, "instance_id": "i-2", "attempt": attempt}
            events.inbox.append(message(event(EventType.TASK_COMPLETED, 100 * attempt + number, **done)))

    loop.later(timedelta(seconds=70), lambda: fail(0, 10))
    loop.later(timedelta(seconds=70), lambda: complete(range(10, 20), 1))
    loop.later(timedelta(seconds=90), lambda: complete(range(8), 2))
    later = {"task": 9, "instance_id": "i-1", "attempt": 2, "details": {"exit_code": 1}}
    loop.later(timedelta(seconds=91), lambda: events.inbox.append(message(event(EventType.TASK_EXITED, 900, **later))))
    loop.later(timedelta(seconds=100), lambda: complete(range(8, 9), 2))
    loop.later(timedelta(seconds=110), lambda: complete(range(9, 10), 3))
    assert controller.run() is JobPhase.COMPLETE
    assert store.summary().counts[TaskStatus.COMPLETED] == 20


def test_controller_warns_of_a_worker_that_an_error_ended(loop, events, make_controller) -> None:

    controller = make_controller()
    fatal = event(EventType.FATAL_EXCEPTION, 1, instance_id="i-1", details={"exception": "no room\x1b[2J"})
    loop.later(timedelta(seconds=5), lambda: events.inbox.append(message(fatal)))
    done = [event(EventType.TASK_COMPLETED, 50 + n, task=n, instance_id="i-2") for n in range(20)]
    loop.later(timedelta(seconds=9), lambda: events.inbox.append(message(*done)))
    with capture_logs() as logs:
        controller.run()
    (warning,) = [entry["event"] for entry in logs if "ended with an error" in entry["event"]]
    assert warning.startswith("The worker of instance 'i-1' ended with an error: no room")
    assert "\x1b" not in warning


def test_controller_ends_a_run_whose_program_starts_nowhere(loop, events, make_controller) -> None:
    controller = make_controller()

    def fail() -> None:
        details = {"exception": "setup: no data\x1b[2J", "start_step": "setup"}
        failed = [event(EventType.FATAL_EXCEPTION, n, instance_id=f"i-{n}", details=details) for n in (1, 2)]
        events.inbox.append(message(*failed))

    loop.later(timedelta(seconds=70), fail)
    with capture_logs() as logs:
        assert controller.run() is JobPhase.ABORTED
    assert controller.reason.startswith("2 instances could not start: setup: no data")
    shown = [entry["event"] for entry in logs if "cannot start" in entry["event"]]
    assert len(shown) == 2
    assert not any("\x1b" in line for line in shown)


def test_controller_completes_a_job_whose_tasks_fail_everywhere(loop, store, compute, events, make_controller) -> None:
    controller = make_controller()

    def fail() -> None:
        for number in range(20):
            exited = {"task": number, "instance_id": f"i-{1 + number % 2}", "details": {"exit_code": 1}}
            events.inbox.append(message(event(EventType.TASK_EXITED, number, **exited)))

    loop.later(timedelta(seconds=70), fail)
    assert controller.run() is JobPhase.COMPLETE
    assert store.summary().counts[TaskStatus.EXITED] == 20
    assert len(compute.launched) == 2
