"""Runs of the controller under a virtual clock, with events made by the test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import attrs
import pytest
from controller_fakes import FakeQueue, event, message, ranked, refusal
from structlog.testing import capture_logs

from cloud_tasks.controller.controller import StopMode
from cloud_tasks.controller.messaging.progress import Progress
from cloud_tasks.errors import InputError, LaunchFailedError, ProviderError, RefusalScope
from cloud_tasks.model import EventType, InstanceState, JobPhase, Limits, Money
from cloud_tasks.report import render_instance_table
from cloud_tasks.report.data.report_data import gather_facts, report_dict
from cloud_tasks.store import Store


def finish_all_tasks(events: FakeQueue, instance: str = "i-1") -> None:
    events.inbox.append(message(*(event(EventType.TASK_COMPLETED, n, task=n, instance_id=instance) for n in range(20))))


def keep_alive(instance: str, number: int) -> bytes:
    return message(event(EventType.KEEP_ALIVE, number, instance_id=instance))


def test_controller_completes_a_job_with_no_instance_left(loop, store, compute, events, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=5), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert controller.all_gone
    assert compute.existing == {}
    assert store.summary().finished
    assert all(record.ended_at is not None for record in store.instances())


def test_completion_does_not_wait_for_the_next_pass(loop, events, make_controller) -> None:
    controller = make_controller()
    started_at = loop.now()
    loop.later(timedelta(seconds=5), lambda: finish_all_tasks(events))
    controller.run()
    assert loop.now() - started_at < timedelta(seconds=15)


def test_end_of_an_instance_is_noticed_before_the_next_pass_where_listings_are_free(
    loop, compute, events, make_controller
) -> None:
    controller = make_controller(watch_interval=timedelta(seconds=1))
    loop.later(timedelta(seconds=10), lambda: compute.existing.pop("i-1"))
    loop.later(timedelta(seconds=20), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 3


def test_watch_for_ended_instances_outlasts_failed_listings_and_causes_one_pass_for_each_end(
    loop, queue, compute, events, make_controller
) -> None:
    controller = make_controller(watch_interval=timedelta(seconds=1))

    def fail(is_failing: bool) -> None:
        compute.listing_fails = is_failing

    loop.later(timedelta(seconds=5), lambda: fail(True))
    loop.later(timedelta(seconds=10), lambda: compute.existing.pop("i-1"))
    loop.later(timedelta(seconds=15), lambda: fail(False))
    loop.later(timedelta(seconds=50), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 3
    # At the start, after the end was noticed, and after it was recorded.
    assert queue.depth_calls == 3


def test_instances_that_end_without_a_heartbeat_end_the_run_with_their_last_output(
    loop, compute, make_controller, monkeypatch
) -> None:
    output = (
        "Traceback (most recent call last):\n  import numpy_missing\nModuleNotFoundError: no \x1b[2Jmodule\nBye\n\n"
    )
    monkeypatch.setattr(compute, "console_log", lambda instance_id: output)
    controller = make_controller(watch_interval=timedelta(seconds=1))
    loop.later(timedelta(seconds=10), compute.existing.clear)
    started_at = loop.now()
    assert controller.run() is JobPhase.ABORTED
    assert loop.now() - started_at < timedelta(seconds=20)
    assert controller.reason.startswith("2 instances exited before the worker started; last output of i-")
    assert ": ModuleNotFoundError: no " in controller.reason
    assert "\x1b" not in controller.reason


@pytest.mark.parametrize("watch_interval", [None, timedelta(seconds=1)])
def test_pause_of_launches_is_reported_once(loop, compute, events, make_controller, watch_interval) -> None:
    controller = make_controller(watch_interval=watch_interval)
    began: set[str] = set()

    def step() -> None:
        """End the instance that has sent a heartbeat, or let the next one send its only one."""
        name = next(iter(compute.existing), None)
        if name in began:
            del compute.existing[name]
        elif name is not None:
            began.add(name)
            events.inbox.append(keep_alive(name, len(began)))
        loop.later(timedelta(seconds=7), step)

    step()
    with capture_logs() as logs:
        assert controller.run() is JobPhase.ABORTED
    pauses = [entry["event"] for entry in logs if "next launch at" in entry["event"]]
    assert len(pauses) > 2
    assert len(set(pauses)) == len(pauses)


def test_refused_zone_is_replaced_by_the_next_at_once(loop, compute, events, make_controller) -> None:
    compute.faults.append(refusal())
    controller = make_controller()
    loop.later(timedelta(seconds=5), lambda: finish_all_tasks(events))
    controller.run()
    assert [request.offer.zone for request in compute.launched] == ["z-a", "z-b", "z-b"]


@pytest.mark.parametrize("stock_outs", [1, 4, 8])
def test_refusals_lead_to_decisions_without_another_listing(
    loop, queue, compute, events, make_controller, stock_outs
) -> None:
    compute.faults.extend(refusal(RefusalScope.OFFER) for _ in range(stock_outs))
    controller = make_controller(offers=tuple(ranked(f"m-{n}", zone=f"z-{n}", price=f"0.{20 + n}") for n in range(10)))
    counted: list[tuple[int, int, int]] = []
    for seconds in (59, 119):
        loop.later(
            timedelta(seconds=seconds),
            lambda: counted.append((compute.listings, queue.depth_calls, len(compute.existing))),
        )
    loop.later(timedelta(seconds=119.5), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    # Passes at 0 s and 60 s; both instances exist long before the second.
    assert counted == [(1, 1, 2), (2, 2, 2)]
    assert len(compute.launched) == stock_outs + 2


def test_refusal_during_a_pass_waits_for_the_decision_of_that_pass(loop, compute, events, make_controller) -> None:
    compute.faults.append(refusal(RefusalScope.OFFER))
    # Refused after 65 s, while the second pass (60 s to 70 s) waits for its listing.
    compute.before_launch = lambda request: loop.charge(timedelta(seconds=65)) if compute.faults else None
    compute.before_listing = lambda: loop.charge(timedelta(seconds=10)) if compute.listings else None
    controller = make_controller()
    launched: list[tuple[int, int]] = []
    for seconds in (69, 71):
        loop.later(timedelta(seconds=seconds), lambda: launched.append((len(compute.launched), compute.listings)))
    loop.later(timedelta(seconds=100), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert launched == [(2, 2), (3, 2)]


def test_refusal_repeats_no_termination_of_the_last_listing(loop, compute, events, make_controller) -> None:
    """The actions that the last listing called for have been carried out."""
    controller = make_controller()
    terminated: list[str] = []
    terminate = compute.terminate

    def record(instance_ids: Sequence[str]) -> None:
        terminated.extend(instance_ids)
        terminate(instance_ids)

    def intrude() -> None:
        (known, *_) = compute.existing.values()
        compute.existing["i-99"] = attrs.evolve(known, instance_id="i-99", client_token="unmanaged")
        compute.existing.pop("i-1")
        compute.faults.extend(refusal(RefusalScope.OFFER) for _ in range(2))
        compute.terminate = record

    loop.later(timedelta(seconds=30), intrude)
    gone: list[list[str]] = []
    loop.later(timedelta(seconds=90), lambda: gone.append(list(terminated)))
    loop.later(timedelta(seconds=95), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert gone == [["i-99"]]


@pytest.mark.parametrize(
    ("error", "bad_input"),
    [
        (LaunchFailedError("the region has no default VPC"), False),
        (InputError("the startup script has 40000 bytes", where="run.startup_script"), True),
    ],
)
def test_certain_launch_failures_abort_the_run(loop, store, compute, make_controller, error, bad_input) -> None:
    compute.faults.extend([error] * 100)
    shown: list[int] = []
    controller = make_controller(
        on_progress=lambda progress: shown.append(sum(r.ended_at is None and bool(r.state) for r in progress.instances))
    )
    started_at = loop.now()
    assert controller.run() is JobPhase.ABORTED
    assert loop.now() - started_at < timedelta(minutes=10)
    assert str(error) in controller.reason
    assert controller.bad_input is bad_input
    assert len(compute.launched) <= 5
    assert not any(shown)
    assert store.spending(loop.now() + timedelta(hours=1)) == Money.zero()


@pytest.mark.parametrize("error", [ProviderError("sbatch: unrecognized option"), TypeError("a bug of the plugin")])
@pytest.mark.parametrize("lag", [0, 10])
def test_launches_of_unknown_outcome_without_instances_abort_the_run(
    loop, compute, make_controller, error, lag
) -> None:
    compute.faults.extend([error] * 100)
    compute.listing_lag = timedelta(seconds=lag)
    controller = make_controller(listing_lag=compute.listing_lag)
    started_at = loop.now()
    assert controller.run() is JobPhase.ABORTED
    assert loop.now() - started_at < timedelta(hours=1)
    assert str(error) in controller.reason
    assert not controller.bad_input
    assert len(compute.launched) <= 5


def test_unanswered_launch_is_settled_by_one_listing_where_listings_do_not_lag(
    loop, store, compute, events, make_controller
) -> None:
    compute.faults.extend([ProviderError("no answer")] * 2)
    controller = make_controller()
    open_intents: list[int] = []
    for seconds in (59, 61):
        loop.later(
            timedelta(seconds=seconds), lambda: open_intents.append(sum(r.ended_at is None for r in store.instances()))
        )
    loop.later(timedelta(seconds=130), lambda: finish_all_tasks(events, "i-1"))
    assert controller.run() is JobPhase.COMPLETE
    assert open_intents == [2, 0]


def test_unanswered_launch_whose_instance_is_listed_is_adopted(loop, compute, events, make_controller) -> None:
    compute.faults.extend([ProviderError("no answer")] * 2)
    compute.effect_before_fault = True
    controller = make_controller()
    loop.later(timedelta(seconds=130), lambda: finish_all_tasks(events, "i-1"))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 2


def test_transient_launch_errors_do_not_abort_the_run(loop, compute, events, make_controller) -> None:
    compute.faults.extend([ProviderError("503", transient=True)] * 1000)
    controller = make_controller()
    loop.later(timedelta(hours=2), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) > 50


def test_failed_launches_do_not_end_a_run_whose_instances_work(loop, compute, events, make_controller) -> None:
    compute.faults.extend([None, *[LaunchFailedError("quota form was withdrawn")] * 1000])
    controller = make_controller()
    for minute in range(1, 120):
        loop.later(timedelta(minutes=minute), lambda n=minute: events.inbox.append(keep_alive("i-1", 60 * n)))
    loop.later(timedelta(hours=2), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE


def test_vanished_instance_is_replaced_and_its_tasks_are_requeued(
    loop, store, compute, events, make_controller
) -> None:
    controller = make_controller()
    started = message(event(EventType.TASK_STARTED, 100, task=0, instance_id="i-1"))
    loop.later(timedelta(seconds=5), lambda: events.inbox.append(started))
    loop.later(timedelta(seconds=50), lambda: compute.existing.pop("i-1"))
    loop.later(timedelta(seconds=200), lambda: finish_all_tasks(events, "i-2"))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 3
    assert store.summary().losses == 1


def test_starting_instance_is_shown_as_running_once_listed_so(
    loop, store, compute, events, make_controller, tmp_path
) -> None:
    compute.boot_time = timedelta(seconds=150)
    shown: list[set[str]] = []
    tables: list[str] = []

    def on_progress(progress: Progress) -> None:
        shown.append({record.state.value for record in progress.instances if record.state is not None})
        tables.append(render_instance_table(progress.instances))
        with Store.open(tmp_path / "job.db", read_only=True) as reader:
            assert [record.state for record in reader.instances()] == [r.state for r in progress.instances]
        machines = report_dict(gather_facts(tmp_path / "job.db", now=progress.now))["machines"]
        assert {machine["state"] for machine in machines if machine["instance_id"]} == shown[-1]

    controller = make_controller(on_progress=on_progress)
    loop.later(timedelta(seconds=200), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    # Launched by the pass at 0 s, starting at 60 s and 120 s, running at 180 s.
    assert shown == [set(), {"starting"}, {"starting"}, {"running"}]
    assert "starting" in tables[2]
    assert "starting" not in tables[3].replace("running/starting", "")
    assert {record.state for record in store.instances()} == {InstanceState.TERMINATED}


def test_lagging_listing_changes_no_state_and_ends_no_instance(loop, store, compute, events, make_controller) -> None:
    compute.listing_lag = timedelta(seconds=100)
    controller = make_controller(listing_lag=timedelta(seconds=100))
    seen: list[list[str]] = []
    for seconds in (70, 130):
        loop.later(timedelta(seconds=seconds), lambda: seen.append([r.state.value for r in store.instances()]))
    loop.later(timedelta(seconds=140), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert seen == [["starting"] * 2, ["running"] * 2]
    assert len(compute.launched) == 2


def test_failed_listing_never_leads_to_a_second_fleet(loop, compute, events, make_controller) -> None:
    controller = make_controller()

    def fail() -> None:
        compute.listing_fails = True

    def recover() -> None:
        compute.listing_fails = False

    loop.later(timedelta(seconds=20), lambda: events.inbox.append(keep_alive("i-1", 900)))
    loop.later(timedelta(seconds=20), lambda: events.inbox.append(keep_alive("i-2", 901)))
    loop.later(timedelta(seconds=30), fail)
    loop.later(timedelta(seconds=600), recover)
    loop.later(timedelta(seconds=700), lambda: finish_all_tasks(events))
    assert controller.run() is JobPhase.COMPLETE
    assert len(compute.launched) == 2


def test_broken_startup_script_aborts_the_run_with_its_console_log(compute, make_controller) -> None:
    controller = make_controller(startup_timeout=timedelta(minutes=3))
    assert controller.run() is JobPhase.ABORTED
    assert "2 instances sent no heartbeat in time" in controller.reason
    assert controller.console_log.startswith("console of i-")
    assert compute.existing == {}


def test_unmanaged_instance_with_the_label_of_the_job_is_terminated(loop, compute, events, make_controller) -> None:
    compute.before_launch = lambda request: None
    controller = make_controller()

    def intrude() -> None:
        (known, *_) = compute.existing.values()
        compute.existing["i-99"] = attrs.evolve(known, instance_id="i-99", client_token="unmanaged")

    loop.later(timedelta(seconds=30), intrude)
    gone: list[bool] = []
    loop.later(timedelta(seconds=90), lambda: gone.append("i-99" not in compute.existing))
    loop.later(timedelta(seconds=95), lambda: finish_all_tasks(events))
    controller.run()
    assert gone == [True]


@pytest.mark.parametrize("is_alive", [True, False])
def test_instances_of_another_controller_end_the_run_and_are_left_alone(
    loop, compute, make_controller, is_alive
) -> None:
    controller = make_controller()

    def intrude() -> None:
        (known, *_) = compute.existing.values()
        state = InstanceState.RUNNING if is_alive else InstanceState.STOPPED
        labels = {"run": "another", "owner": "bob"}
        compute.existing["i-99"] = attrs.evolve(
            known, instance_id="i-99", client_token="theirs", labels=labels, state=state
        )

    loop.later(timedelta(seconds=30), intrude)
    loop.later(timedelta(seconds=200), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is (JobPhase.ABORTED if is_alive else JobPhase.STOPPED)
    assert (set(compute.existing), controller.all_gone, len(compute.launched)) == ({"i-99"}, True, 2)
    if is_alive:
        assert (
            "another controller runs a job of this name: instance i-99 of owner bob, run another" in controller.reason
        )


@pytest.mark.parametrize("run", ["run", "earlier", ""])
def test_unmanaged_instance_of_a_known_run_is_terminated(loop, store, compute, make_controller, run) -> None:
    store.note_earlier_runs(["earlier"])
    controller = make_controller()

    def intrude() -> None:
        (known, *_) = compute.existing.values()
        labels = {"run": run, "owner": "bob"}
        compute.existing["i-99"] = attrs.evolve(known, instance_id="i-99", client_token="lost", labels=labels)

    loop.later(timedelta(seconds=30), intrude)
    gone: list[bool] = []
    loop.later(timedelta(seconds=90), lambda: gone.append("i-99" not in compute.existing))
    loop.later(timedelta(seconds=95), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert gone == [True]


def test_end_terminates_recorded_instances_while_listings_fail(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    requests: list[Sequence[str]] = []
    terminate = compute.terminate

    def record(instance_ids: Sequence[str]) -> None:
        requests.append(tuple(instance_ids))
        if len(requests) == 1:
            raise ProviderError("503", transient=True)
        terminate(instance_ids)

    def fail() -> None:
        compute.listing_fails = True
        compute.terminate = record
        finish_all_tasks(events)

    def recover() -> None:
        compute.listing_fails = False

    states: list[tuple[object, ...]] = []
    loop.later(timedelta(seconds=5), fail)
    loop.later(timedelta(seconds=60), lambda: states.append((dict(compute.existing), controller.all_gone)))
    loop.later(timedelta(seconds=90), recover)
    assert controller.run() is JobPhase.COMPLETE
    # Repeated in calls of their own until they succeed, then the listing is awaited.
    assert requests == [("i-1", "i-2"), ("i-1",), ("i-2",)]
    assert states == [({}, False)]
    assert controller.all_gone


def test_end_is_not_confirmed_by_terminations_alone(loop, compute, store, events, make_controller, capsys) -> None:
    controller = make_controller()

    def fail() -> None:
        compute.listing_fails = True
        finish_all_tasks(events)

    loop.later(timedelta(seconds=5), fail)
    assert controller.run() is JobPhase.COMPLETE
    assert (compute.existing, controller.all_gone) == ({}, False)
    assert controller.instances_left() == ("i-1", "i-2")
    assert all(record.ended_at is None for record in store.instances())
    assert "Instances not known to be terminated after 10m: i-1, i-2" in capsys.readouterr().out


def test_stop_leaving_instances_terminates_none(loop, compute, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.LEAVE))
    assert controller.run() is JobPhase.LEFT
    assert len(compute.existing) == 2


@pytest.mark.parametrize("are_gone", [True, False])
def test_resumed_run_books_what_instances_can_have_cost_without_a_controller(
    loop, store, compute, events, make_controller, are_gone: bool
) -> None:
    limits = Limits(max_instances=2, max_total_cost=Money(5 if are_gone else 20))
    options = {"limits": limits, "max_lifetime": timedelta(hours=2), "own_end": timedelta(minutes=15)}
    first = make_controller(**options)
    loop.later(timedelta(minutes=1), lambda: first.stop(StopMode.LEAVE))
    first.run()
    store.record_alive(loop.now())
    price = sum((record.price_per_hour for record in store.instances()), Money.zero())
    loop.run_for(timedelta(hours=12))
    if are_gone:
        compute.existing.clear()
    store.begin_run(loop.now())
    resumed = make_controller(**options)
    loop.later(timedelta(seconds=30), lambda: finish_all_tasks(events, "i-3"))
    assert resumed.run() is JobPhase.COMPLETE
    earlier = [record for record in store.instances() if record.instance_id in ("i-1", "i-2")]
    hours = sum((record.ended_at - record.launched_at for record in earlier), timedelta()) / timedelta(hours=1) / 2
    assert hours == pytest.approx(2.25 if are_gone else 12, abs=0.1)
    assert store.spending(loop.now()) >= price * 2.25


def test_stop_terminates_all_instances(loop, compute, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert compute.existing == {}
    assert controller.instances_left() == ()


def test_stop_terminates_after_leave_while_the_last_events_are_collected(loop, compute, make_controller) -> None:
    controller = make_controller()
    answers: list[bool] = []

    def interrupt() -> None:
        answers.append(controller.stop(StopMode.LEAVE))
        answers.append(controller.stop(StopMode.LEAVE))
        assert controller.instances_left() == ("i-1", "i-2")
        answers.append(controller.stop(StopMode.TERMINATE))

    loop.later(timedelta(seconds=30), interrupt)
    assert controller.run() is JobPhase.STOPPED
    assert answers == [True, False, True]
    assert (compute.existing, controller.all_gone) == ({}, True)


def test_stop_changes_nothing_after_a_run_that_left_its_instances_is_over(loop, compute, make_controller) -> None:
    controller = make_controller()
    loop.later(timedelta(seconds=30), lambda: controller.stop(StopMode.LEAVE))
    assert controller.run() is JobPhase.LEFT
    assert controller.stop(StopMode.TERMINATE) is False
    loop.run_for(timedelta(minutes=1))
    assert (controller.phase, len(compute.existing)) == (JobPhase.LEFT, 2)


def test_stop_does_not_change_an_end_that_terminates_instances(loop, compute, events, make_controller) -> None:
    controller = make_controller()
    answers: list[bool] = []

    def interrupt() -> None:
        assert controller.phase is JobPhase.COMPLETE
        answers.extend(controller.stop(mode) for mode in StopMode)
        assert controller.instances_left() == ("i-1", "i-2")
        compute.listing_fails = False

    def fail() -> None:
        compute.listing_fails = True
        finish_all_tasks(events)

    loop.later(timedelta(seconds=5), fail)
    loop.later(timedelta(seconds=30), interrupt)
    assert controller.run() is JobPhase.COMPLETE
    assert answers == [False, False]
    assert controller.instances_left() == ()


def test_stop_during_the_console_log_of_an_abort_leaves_the_run_aborted(loop, compute, make_controller) -> None:
    controller = make_controller(startup_timeout=timedelta(minutes=3))
    answers: list[bool] = []

    def console_log(instance_id: str) -> str:
        loop.post(lambda: answers.append(controller.stop(StopMode.LEAVE)))
        return "console"

    compute.console_log = console_log
    assert controller.run() is JobPhase.ABORTED
    assert (answers, controller.console_log, compute.existing) == ([False], "console", {})
