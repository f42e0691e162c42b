"""Credentials that end while a run is running: launches pause, nothing else is blocked, and a repair is noticed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from controller_fakes import FakeCompute, event, message, ranked
from structlog.testing import capture_logs
from virtual_loop import START, VirtualLoop

from cloud_tasks.controller.autoscaler.fleet import Fleet
from cloud_tasks.controller.controller import StopMode
from cloud_tasks.controller.event_loop import start
from cloud_tasks.controller.launch.terminate import terminate_instances
from cloud_tasks.errors import CredentialsError, ProviderError, RefusalScope
from cloud_tasks.model import EventType, JobPhase, LaunchRequest, Limits

MINUTE = timedelta(minutes=1)
EXPIRED = CredentialsError("ExpiredToken: the security token is expired", hint="run: aws sso login")


class Account:
    """Credentials of a fake provider that are valid or expired."""

    def __init__(self, compute: FakeCompute) -> None:
        self._compute = compute
        self.renew()

    def expire(self) -> None:
        self._compute.before_launch = self._compute.before_listing = self.refuse  # type: ignore[assignment]
        self._compute.terminate = self.refuse  # type: ignore[method-assign,assignment]

    def renew(self) -> None:
        self._compute.before_launch = lambda request: None
        self._compute.before_listing = lambda: None
        self._compute.__dict__.pop("terminate", None)

    def refuse(self, *_: object) -> None:
        raise EXPIRED


@pytest.fixture
def account(compute: FakeCompute) -> Account:
    return Account(compute)


@pytest.fixture
def fleet(loop, store, compute) -> Fleet:
    def compose(offer, others, token, lifetime) -> LaunchRequest:
        return LaunchRequest(client_token=token, job_id="job", offer=offer.offer, startup_script="", labels={})

    return Fleet(loop, store, compute, job_id="job", compose=compose, max_parallel=1, on_refused=lambda: None)


def test_launch_refused_for_credentials_blocks_the_account_and_names_the_remedy(loop, store, account, fleet) -> None:
    account.expire()
    with capture_logs() as logs:
        fleet.launch(ranked(), 3)
        loop.run(lambda: not fleet.busy)
    (block,) = fleet.refused_scopes.current()
    assert (block.scope, block.needs_action) == (RefusalScope.ACCOUNT, True)
    assert [record.ended_at is None for record in store.instances()] == [False] * 3
    assert any("ExpiredToken" in entry["event"] and "run: aws sso login" in entry["event"] for entry in logs)
    assert fleet.launch_failures() is None


def test_launch_whose_repetition_is_refused_for_credentials_keeps_its_intent(loop, store, compute, fleet) -> None:
    compute.faults.extend([ProviderError("cut off", transient=True), EXPIRED, EXPIRED])
    compute.effect_before_fault = True
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)
    (record,) = store.instances()
    assert (record.instance_id, record.ended_at) == (None, None)
    fleet.forget(record.client_token, "not listed")
    assert fleet.launch_failures() is None


def test_listing_that_succeeds_ends_the_refusal_of_credentials(loop, account, fleet) -> None:
    account.expire()
    fleet.launch(ranked(), 1)
    loop.run(lambda: not fleet.busy)

    async def look() -> None:
        await fleet.list()

    start(look())
    loop.run_for(MINUTE / 60)
    assert fleet.refused_scopes.credentials_problem
    account.renew()
    start(look())
    loop.run_for(MINUTE / 60)
    assert (fleet.refused_scopes.credentials_problem, fleet.refused_scopes.current()) == ("", ())
    assert fleet.refused_scopes.since is None


@pytest.mark.parametrize("after", [timedelta(0), timedelta(minutes=5)])
def test_run_without_credentials_and_instances_ends_after_a_time_with_the_remedy(
    loop, compute, account, make_controller, after
) -> None:
    controller = make_controller(limits=Limits(max_instances=1))

    if after:
        # A listing shows that the last instance has gone before listings are refused, too.
        loop.later(after, compute.existing.clear)
        loop.later(after, lambda: setattr(compute, "before_launch", account.refuse))
    loop.later(2 * after, account.expire)
    loop.later(timedelta(hours=3), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.ABORTED
    assert "ExpiredToken: the security token is expired; run: aws sso login" in controller.reason
    assert "give_up_after" in controller.reason
    assert START + timedelta(minutes=15) <= loop.now() <= START + after + timedelta(minutes=40)


def test_run_continues_when_the_credentials_are_renewed(loop: VirtualLoop, compute, account, make_controller) -> None:
    controller = make_controller(limits=Limits(max_instances=1))
    account.expire()
    loop.later(timedelta(minutes=12), account.renew)
    launched: list[int] = []
    loop.later(timedelta(minutes=14), lambda: launched.append(len(compute.existing)))
    loop.later(timedelta(minutes=30), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert launched == [1]


def test_run_with_instances_waits_for_credentials_without_end(loop, compute, account, events, make_controller) -> None:
    controller = make_controller(limits=Limits(max_instances=1))
    for minute in range(1, 180):
        beat = event(EventType.KEEP_ALIVE, minute, instance_id="i-1", details={"running_tasks": 1})
        loop.later(minute * MINUTE, lambda beat=beat: events.inbox.append(message(beat)))
    loop.later(timedelta(minutes=5), account.expire)
    loop.later(timedelta(hours=2), account.renew)
    phases: list[JobPhase] = []
    loop.later(timedelta(hours=2, minutes=5), lambda: phases.append(controller.phase))
    loop.later(timedelta(hours=2, minutes=6), lambda: controller.stop(StopMode.TERMINATE))
    controller.run()
    assert phases == [JobPhase.RUNNING]
    assert len(compute.launched) == 1
    assert compute.existing == {}


def test_first_tasks_wait_for_a_queue_that_refuses_the_credentials(loop, queue, compute, make_controller) -> None:
    controller = make_controller()
    queue.faults.extend([EXPIRED] * 5)
    loop.later(timedelta(minutes=5), lambda: controller.stop(StopMode.TERMINATE))
    assert controller.run() is JobPhase.STOPPED
    assert len(queue.bodies) == 20


def test_termination_by_a_command_ends_at_once_without_credentials(compute, account, loop) -> None:
    account.expire()
    waits: list[str] = []
    with pytest.raises(ProviderError, match=r"i-1.*ExpiredToken.*run: aws sso login"):
        terminate_instances(
            compute,
            lambda: compute.instances("job"),
            timeout=timedelta(minutes=10),
            recorded=["i-1"],
            on_wait=waits.append,
            sleep=lambda seconds: account.renew(),
        )
    assert waits == []


def test_termination_after_a_failed_run_waits_for_credentials(compute, account) -> None:
    account.expire()
    waits: list[str] = []
    ended = terminate_instances(
        compute,
        lambda: compute.instances("job"),
        timeout=timedelta(minutes=10),
        recorded=["i-1"],
        on_wait=waits.append,
        wait_for_credentials=True,
        sleep=lambda seconds: account.renew(),
    )
    assert ended == ()
    assert len(waits) == 1
