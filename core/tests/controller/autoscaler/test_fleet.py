"""Fleet: intents come first, refusals block scopes, listings settle launches of unknown outcome."""

from __future__ import annotations

import itertools
from datetime import timedelta

import attrs
import pytest
from controller_fakes import ranked, refusal
from structlog.testing import capture_logs

from cloud_tasks.config import ConfigurationError
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.state import LaunchFailures
from cloud_tasks.controller.event_loop import start
from cloud_tasks.errors import (
    CredentialsError,
    InputError,
    LaunchFailedError,
    NotFoundError,
    ProviderError,
    RefusalScope,
    StoreError,
)
from cloud_tasks.model import Instance, LaunchRequest, Money


@pytest.fixture
def refused() -> list[str]:
    return []


def compose(offer, others, token, lifetime) -> LaunchRequest:
    return LaunchRequest(
        client_token=token,
        job_id="job",
        offer=offer.offer,
        alternatives=tuple(other.offer for other in others),
        startup_script="",
        labels={},
        max_lifetime=lifetime,
    )


@pytest.fixture
def fleet(loop, store, compute, refused) -> Fleet:
    return Fleet(
        loop,
        store,
        compute,
        job_id="job",
        compose=compose,
        max_parallel=2,
        own_end=timedelta(minutes=10),
        on_refused=lambda: refused.append("refused"),
    )


def test_intent_is_committed_before_its_launch_is_called(loop, store, compute, fleet) -> None:
    known: list[bool] = []
    compute.before_launch = lambda request: known.append(
        request.client_token in {record.client_token for record in store.instances()}
    )
    fleet.launch(ranked(), 3)
    loop.run(lambda: not fleet.busy)
    assert known == [True, True, True]
    assert sorted(record.instance_id for record in store.instances()) == ["i-1", "i-2", "i-3"]


def test_launched_instance_ends_itself_within_its_lifetime_from_the_answer(loop, store, fleet) -> None:
    began = loop.now()
    fleet.launch(ranked(), 1, lifetime=timedelta(hours=2))
    loop.run(lambda: not fleet.busy)
    (record,) = store.instances()
    latency = loop.now() - began
    assert (record.deadline, record.ends_by) == (
        began + timedelta(hours=2),
        began + latency + timedelta(hours=2, minutes=10),
    )


def test_launch_calls_never_exceed_the_maximum_at_a_time(loop, compute, fleet) -> None:
    fleet.launch(ranked(), 5)
    assert len(compute.launched) == 2
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 5


@pytest.mark.parametrize("confirms", [True, False])
def test_launch_that_waited_begins_with_its_call(loop, store, compute, fleet, confirms) -> None:
    began = loop.now()
    compute.before_launch = lambda request: loop.charge(timedelta(minutes=9))
    fleet.launch(ranked(), 3, lifetime=timedelta(hours=2))
    for _ in range(8):
        loop.run_for(timedelta(minutes=1))
        if confirms:
            fleet.confirm()
    called_tokens = {request.client_token for request in compute.launched}
    (waiting,) = (record for record in store.instances() if record.client_token not in called_tokens)
    intended = began + timedelta(minutes=8 if confirms else 0)
    assert (waiting.intended_at, waiting.deadline) == (intended, intended + timedelta(hours=2))
    loop.run(lambda: not fleet.busy)
    (last,) = (record for record in store.instances() if record.client_token == waiting.client_token)
    called = last.launched_at
    assert called >= began + timedelta(minutes=9)
    assert (last.began_at, last.deadline) == (called, called + timedelta(hours=2))


def test_launch_whose_intent_cannot_be_renewed_waits(loop, lock, compute, fleet) -> None:
    compute.before_launch = lambda request: loop.charge(timedelta(minutes=9))
    fleet.launch(ranked(), 3)
    lock.hold()
    loop.run_for(timedelta(minutes=9, seconds=1))
    assert len(compute.launched) == 2
    lock.release()
    loop.run_for(timedelta(minutes=2))
    fleet.confirm()
    assert len(compute.launched) == 3


def test_request_is_finished_once_for_all_its_attempts(loop, store, compute) -> None:
    numbers = itertools.count()

    def finish(request: LaunchRequest) -> LaunchRequest:
        return attrs.evolve(request, startup_script=f"address {next(numbers)}")

    fleet = Fleet(
        loop, store, compute, job_id="job", compose=compose, finish=finish, max_parallel=1, on_refused=lambda: None
    )
    compute.faults.extend([ProviderError("cut off", transient=True)])
    fleet.launch(ranked(), 2)
    loop.run(lambda: not fleet.busy)
    assert [request.startup_script for request in compute.launched] == ["address 0", "address 0", "address 1"]


def test_request_that_cannot_be_finished_without_credentials_is_refused(loop, store, compute) -> None:
    def finish(request: LaunchRequest) -> LaunchRequest:
        raise CredentialsError("expired", hint="sign in")

    fleet = Fleet(
        loop, store, compute, job_id="job", compose=compose, finish=finish, max_parallel=1, on_refused=lambda: None
    )
    fleet.launch(ranked(), 2)
    loop.run(lambda: not fleet.busy)
    assert compute.launched == []
    (block,) = fleet.refused_scopes.current()
    assert (block.scope, block.needs_action) == (RefusalScope.ACCOUNT, True)


def test_refusal_blocks_its_scope_and_withdraws_waiting_launches(loop, store, compute, fleet, refused) -> None:
    compute.faults.extend([refusal(), refusal()])
    fleet.launch(ranked(), 5)
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 2
    assert {block.scope for block in fleet.refused_scopes.current()} == {RefusalScope.ZONE}
    assert [record.ended_at is None for record in store.instances()] == [False] * 5
    assert refused
    loop.run_for(timedelta(minutes=6))
    assert fleet.refused_scopes.current() == ()


def test_transient_error_is_retried_with_the_same_client_token(loop, store, compute, fleet) -> None:
    compute.faults.append(ProviderError("time-out", transient=True))
    compute.effect_before_fault = True
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 2
    assert len({request.client_token for request in compute.launched}) == 1
    assert len(compute.existing) == 1
    assert [record.instance_id for record in store.instances()] == ["i-1"]


def test_launch_of_unknown_outcome_keeps_its_intent(loop, store, compute, fleet) -> None:
    compute.faults.extend(ProviderError("time-out", transient=True) for _ in range(3))
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    (record,) = store.instances()
    assert record.instance_id is None
    assert record.ended_at is None


CERTAIN = (
    LaunchFailedError("the region has no default VPC", hint="set aws.subnets"),
    InputError("the startup script has 90000 bytes", where="run.startup_script"),
    ConfigurationError([InputError("unknown image")]),
)


def provisioned(fleet, loop, count: int) -> str:
    """Launch instances; return the log line that sums up their launches."""
    with capture_logs() as logs:
        fleet.launch(ranked(), count)
        loop.run(lambda: not fleet.busy)
    (line,) = [entry["event"] for entry in logs if "requested instances" in entry["event"]]
    return line


def test_launch_summary_is_the_success_line_if_all_instances_started(loop, fleet) -> None:
    assert provisioned(fleet, loop, 5) == "Successfully provisioned 5 of 5 requested instances"


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([refusal()], "Provisioned 1 of 5 requested instances: 1 refused, 3 not attempted"),
        ([refusal(), refusal()], "Provisioned 0 of 5 requested instances: 2 refused, 3 not attempted"),
        ([LaunchFailedError("no network")] * 2, "Provisioned 0 of 5 requested instances: 2 failed, 3 not attempted"),
        ([None, ProviderError("no answer")], "Provisioned 4 of 5 requested instances: 1 of unknown outcome"),
    ],
)
def test_launch_summary_counts_what_did_not_start(loop, compute, fleet, faults, expected) -> None:
    compute.faults.extend(faults)
    assert provisioned(fleet, loop, 5) == expected


@pytest.mark.parametrize("error", CERTAIN, ids=lambda error: type(error).__name__)
def test_certain_failure_leaves_no_intent_and_withdraws_waiting_launches(loop, store, compute, fleet, error) -> None:
    compute.faults.extend([error, error])
    fleet.launch(ranked(), 5)
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 2
    assert all(record.ended_at is not None and record.launched_at is None for record in store.instances())
    assert {record.end_reason.removeprefix("not attempted: ") for record in store.instances()} == {str(error)}
    assert store.spending(loop.now() + timedelta(hours=1)) == Money.zero()
    bad_input = isinstance(error, InputError)
    assert fleet.launch_failures() == LaunchFailures(rounds=1, message=str(error), bad_input=bad_input)
    assert fleet.refused_scopes.current() == ()


UNKNOWN = (
    ProviderError("no such command", transient=False),
    NotFoundError("the instance is not there"),
    ZeroDivisionError("a bug"),
    StoreError("a plugin's own file"),
)


@pytest.mark.parametrize("error", UNKNOWN, ids=lambda error: type(error).__name__)
def test_launch_with_another_error_has_an_unknown_outcome(loop, store, compute, fleet, error) -> None:
    compute.faults.append(error)
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    (record,) = store.instances()
    assert (len(compute.launched), record.instance_id, record.ended_at) == (1, None, None)
    assert fleet.launch_failures() is None
    fleet.forget(record.client_token, "never seen")
    failures = fleet.launch_failures()
    assert failures is not None
    assert (failures.rounds, failures.bad_input) == (1, False)
    assert str(error) in failures.message
    assert store.instances()[0].ended_at is not None


def test_failure_after_an_unanswered_attempt_is_not_certain(loop, store, compute, fleet) -> None:
    compute.faults.extend([ProviderError("time-out", transient=True), LaunchFailedError("no credentials")])
    compute.effect_before_fault = True
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    (record,) = store.instances()
    assert (record.instance_id, record.ended_at) == (None, None)


def test_launch_failures_count_rounds_and_end_with_a_success(loop, compute, fleet) -> None:
    for expected in (1, 2):
        compute.faults.extend([LaunchFailedError("no network")] * 2)
        fleet.launch(ranked(), 2)
        loop.run(lambda: not fleet.busy)
        assert fleet.launch_failures() == LaunchFailures(rounds=expected, message="no network", bad_input=False)
        loop.run_for(timedelta(seconds=60))
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    assert fleet.launch_failures() is None


def test_transient_errors_are_no_certain_failure(loop, store, compute, fleet) -> None:
    compute.faults.extend(ProviderError("time-out", transient=True) for _ in range(3))
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    fleet.forget(store.instances()[0].client_token, "never seen")
    assert fleet.launch_failures() is None
    assert store.instances()[0].ended_at is not None


def test_failed_listing_is_none_and_not_empty(loop, compute, fleet) -> None:
    answers: list[object] = []
    compute.listing_fails = True

    async def ask() -> None:
        answers.append(await fleet.list())

    start(ask())
    loop.run(lambda: bool(answers))
    assert answers == [None]


CHOICE = (ranked("m-8", "z-a", "0.20"), ranked("n-8", "z-b", "0.22"))


def test_intent_has_the_price_of_the_most_expensive_offer(loop, store, compute, fleet) -> None:
    fleet.launch(CHOICE[0], 1, CHOICE[1:])
    (record,) = store.instances()
    assert (record.instance_type, record.price_per_hour) == ("m-8", Money("0.22"))


@pytest.mark.parametrize(("chosen", "price"), [(0, "0.20"), (1, "0.22")])
def test_launched_instance_has_the_price_of_the_selected_offer(loop, store, compute, fleet, chosen, price) -> None:
    compute.choose = lambda offers: offers[chosen]
    fleet.launch(CHOICE[0], 1, CHOICE[1:])
    loop.run(lambda: not fleet.busy)
    (record,) = store.instances()
    offer = CHOICE[chosen].offer
    assert (record.instance_type, record.zone) == (offer.instance_type.name, offer.zone)
    assert record.price_per_hour == Money(price)


def test_refusal_with_alternatives_blocks_all_of_them(loop, compute, fleet) -> None:
    compute.faults.append(refusal(RefusalScope.OFFER))
    fleet.launch(CHOICE[0], 1, CHOICE[1:])
    loop.run(lambda: not fleet.busy)
    assert {block.offer for block in fleet.refused_scopes.current()} == {ranked.offer for ranked in CHOICE}


@pytest.mark.parametrize(
    ("skew", "expected"),
    [(20, []), (-20, []), (300, ["5m ahead of"]), (-300, ["5m behind"]), (-86_400, ["1d behind"])],
)
def test_clock_of_the_provider_that_differs_is_reported_once_and_changes_no_cost(
    loop, store, compute, fleet, skew, expected
) -> None:
    launch = compute.launch

    def skewed(request: LaunchRequest) -> Instance:
        found = launch(request)
        return attrs.evolve(found, created_at=found.created_at + timedelta(seconds=skew))

    compute.launch = skewed
    with capture_logs() as logs:
        fleet.launch(ranked(price="1"), 3)
        loop.run(lambda: not fleet.busy)
    lines = [entry["event"] for entry in logs if "clock" in entry["event"]]
    assert [line.partition(" is ")[2].partition(" that")[0] for line in lines] == expected
    hour = loop.now() + timedelta(hours=1)
    assert Money(3) <= store.spending(hour) < Money("3.01")
