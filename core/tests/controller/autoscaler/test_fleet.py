"""Launching and terminating: intent first, refusals block, answers that never came are settled by listings."""

from __future__ import annotations

from datetime import timedelta

import pytest
from controller_fakes import ranked, refusal

from cloud_tasks.config import ConfigurationError
from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.autoscaler.state import LaunchFailures
from cloud_tasks.errors import InputError, LaunchFailedError, NotFoundError, ProviderError, RefusalScope, StoreError
from cloud_tasks.model import LaunchRequest, Money


@pytest.fixture
def refused() -> list[str]:
    return []


@pytest.fixture
def fleet(loop, store, compute, refused) -> Fleet:
    def compose(offer, others, token) -> LaunchRequest:
        return LaunchRequest(
            client_token=token,
            job_id="job",
            offer=offer.offer,
            alternatives=tuple(other.offer for other in others),
            startup_script="",
            labels={},
        )

    return Fleet(loop, store, compute, compose=compose, max_parallel=2, on_refused=lambda: refused.append("refused"))


def test_the_intent_is_committed_before_the_launch_is_called(loop, store, compute, fleet) -> None:
    known: list[bool] = []
    compute.before_launch = lambda request: known.append(
        request.client_token in {record.client_token for record in store.instances()}
    )
    fleet.launch(ranked(), 3)
    loop.run(lambda: not fleet.busy)
    assert known == [True, True, True]
    assert sorted(record.instance_id for record in store.instances()) == ["i-1", "i-2", "i-3"]


def test_no_more_launches_are_under_way_than_allowed(loop, compute, fleet) -> None:
    fleet.launch(ranked(), 5)
    assert len(compute.launched) == 2
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 5


def test_a_refusal_blocks_its_scope_and_takes_back_those_that_wait(loop, store, compute, fleet, refused) -> None:
    compute.faults.extend([refusal(), refusal()])
    fleet.launch(ranked(), 5)
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 2
    assert {block.scope for block in fleet.blocks()} == {RefusalScope.ZONE}
    assert [record.ended_at is None for record in store.instances()] == [False] * 5
    assert refused
    loop.run_for(timedelta(minutes=6))
    assert fleet.blocks() == ()


def test_a_passing_fault_is_tried_again_under_the_same_token(loop, store, compute, fleet) -> None:
    compute.faults.append(ProviderError("time-out", transient=True))
    compute.effect_before_fault = True
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 2
    assert len({request.client_token for request in compute.launched}) == 1
    assert len(compute.machines) == 1
    assert [record.instance_id for record in store.instances()] == ["i-1"]


def test_a_launch_without_an_answer_keeps_its_intent(loop, store, compute, fleet) -> None:
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


@pytest.mark.parametrize("error", CERTAIN, ids=lambda error: type(error).__name__)
def test_a_launch_that_failed_for_certain_leaves_no_intent_and_takes_back_those_that_wait(
    loop, store, compute, fleet, error
) -> None:
    compute.faults.extend([error, error])
    fleet.launch(ranked(), 5)
    loop.run(lambda: not fleet.busy)
    assert len(compute.launched) == 2
    assert all(record.ended_at is not None and record.launched_at is None for record in store.instances())
    assert {record.end_reason.removeprefix("not tried: ") for record in store.instances()} == {str(error)}
    assert store.spending(loop.now() + timedelta(hours=1)) == Money.zero()
    bad_input = isinstance(error, InputError)
    assert fleet.launch_failures() == LaunchFailures(rounds=1, message=str(error), bad_input=bad_input)
    assert fleet.blocks() == ()


UNKNOWN = (
    ProviderError("no such command", transient=False),
    NotFoundError("the instance is not there"),
    ZeroDivisionError("a bug"),
    StoreError("a plugin's own file"),
)


@pytest.mark.parametrize("error", UNKNOWN, ids=lambda error: type(error).__name__)
def test_any_other_error_of_a_launch_leaves_its_outcome_unknown(loop, store, compute, fleet, error) -> None:
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


def test_a_failure_after_an_unanswered_attempt_is_not_certain(loop, store, compute, fleet) -> None:
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


def test_an_outage_is_no_failure_for_certain(loop, store, compute, fleet) -> None:
    compute.faults.extend(ProviderError("time-out", transient=True) for _ in range(3))
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    fleet.forget(store.instances()[0].client_token, "never seen")
    assert fleet.launch_failures() is None
    assert store.instances()[0].ended_at is not None


def test_a_failed_listing_is_unknown_and_not_empty(loop, compute, fleet) -> None:
    answers: list[object] = []
    compute.listing_fails = True
    fleet.list("job", answers.append)
    loop.run(lambda: bool(answers))
    assert answers == [None]


CHOICE = (ranked("m-8", "z-a", "0.20"), ranked("n-8", "z-b", "0.22"))


def test_an_intent_costs_what_the_dearest_costs_that_may_come_of_it(loop, store, compute, fleet) -> None:
    fleet.launch(CHOICE[0], 1, CHOICE[1:])
    (record,) = store.instances()
    assert (record.instance_type, record.price_per_hour) == ("m-8", Money("0.22"))


@pytest.mark.parametrize(("chosen", "price"), [(0, "0.20"), (1, "0.22")])
def test_what_the_provider_chose_is_what_is_paid_for(loop, store, compute, fleet, chosen, price) -> None:
    compute.choose = lambda offers: offers[chosen]
    fleet.launch(CHOICE[0], 1, CHOICE[1:])
    loop.run(lambda: not fleet.busy)
    (record,) = store.instances()
    offer = CHOICE[chosen].offer
    assert (record.instance_type, record.zone) == (offer.instance_type.name, offer.zone)
    assert record.price_per_hour == Money(price)


def test_a_refusal_of_a_choice_is_one_of_all_that_was_to_choose_from(loop, compute, fleet) -> None:
    compute.faults.append(refusal(RefusalScope.OFFER))
    fleet.launch(CHOICE[0], 1, CHOICE[1:])
    loop.run(lambda: not fleet.busy)
    assert {block.offer for block in fleet.blocks()} == {ranked.offer for ranked in CHOICE}
