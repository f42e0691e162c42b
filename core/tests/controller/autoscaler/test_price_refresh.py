"""Prices of a running job: requested again, ranked again, booked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from controller_fakes import event, message, ranked
from structlog.testing import capture_logs

from cloud_tasks.controller.autoscaler.price_refresh import CurrentPrices
from cloud_tasks.controller.controller import StopMode
from cloud_tasks.errors import ProviderError
from cloud_tasks.model import EventType, JobPhase, Limits, Money
from cloud_tasks.store import InstanceRecord

HOUR = timedelta(hours=1)


class Market:
    """Prices that change when the test says so; records the requests."""

    def __init__(self) -> None:
        self.price = "0.25"
        self.error: Exception | None = None
        self.reason = ""
        self.requests: list[Sequence[InstanceRecord]] = []

    def __call__(self, running: Sequence[InstanceRecord]) -> CurrentPrices:
        self.requests.append(running)
        if self.error is not None:
            raise self.error
        return CurrentPrices(
            offers=() if self.reason else (ranked(price=self.price), ranked(zone="z-b", price=self.price)),
            instances={record.client_token: Money(self.price) for record in running},
            reason=self.reason,
        )


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def run_for(loop, store, events, make_controller, market) -> Callable[..., object]:
    """Return a function that runs a job for some hours, with actions at times in seconds."""

    def run(hours: float, *actions: tuple[float, Callable[[], object]], **options: object) -> object:
        controller = make_controller(request_prices=market, price_interval=HOUR / 4, **options)
        for seconds, action in actions:
            loop.later(timedelta(seconds=seconds), action)

        def keep_alive() -> None:
            living = [record.instance_id for record in store.instances() if record.ended_at is None]
            number = int((loop.now() - start).total_seconds())
            events.inbox.append(
                message(
                    *(
                        event(EventType.KEEP_ALIVE, number * 10 + each, instance_id=instance, timestamp=loop.now())
                        for each, instance in enumerate(living)
                    )
                )
            )
            loop.later(timedelta(seconds=60), keep_alive)

        start = loop.now()
        loop.later(timedelta(seconds=30), keep_alive)
        loop.later(HOUR * hours, lambda: finish(events))
        assert controller.run() is not None
        return controller

    return run


def finish(events) -> None:
    events.inbox.append(message(*(event(EventType.TASK_COMPLETED, 10**7 + n, task=n) for n in range(20))))


def test_prices_are_requested_at_the_interval_with_the_running_instances(market, run_for) -> None:
    run_for(1.1)
    assert len(market.requests) == 4
    assert [[record.instance_id for record in running] for running in market.requests] == [["i-1", "i-2"]] * 4


def test_higher_price_is_booked_from_then_on(loop, store, market, run_for) -> None:
    def rise() -> None:
        market.price = "0.75"

    costs: list[Money] = []
    run_for(
        1.1,
        (1790.0, rise),
        (1799.9, lambda: costs.append(store.spending(loop.now()))),
        (1800.2, lambda: costs.append(store.spending(loop.now()))),
    )
    assert {record.price_per_hour for record in store.instances()} == {Money("0.75")}
    assert costs[0] <= costs[1] < costs[0] + Money("0.001")
    hours = sum((r.ended_at - r.launched_at).total_seconds() / 3600 for r in store.instances())
    cost = float(store.spending(loop.now()).usd)
    assert 0.25 * hours < cost < 0.75 * hours


def test_resumed_run_books_its_instances_at_current_prices_at_once(
    loop, store, compute, events, make_controller, market
) -> None:
    first = make_controller()
    loop.later(timedelta(seconds=90), lambda: first.stop(StopMode.LEAVE))
    first.run()
    market.price = "0.75"
    second = make_controller(request_prices=market, price_interval=HOUR)
    loop.later(timedelta(seconds=5), lambda: finish(events))
    second.run()
    assert len(market.requests) == 1
    assert {record.price_per_hour for record in store.instances()} == {Money("0.75")}


def test_lower_price_changes_the_offers_only(loop, store, compute, market, run_for) -> None:
    def fall() -> None:
        market.price = "0.10"

    run_for(1.0, (10.0, fall), (1900.0, lambda: compute.existing.pop("i-1")))
    assert [record.price_per_hour for record in store.instances()] == [Money("0.25"), Money("0.25"), Money("0.10")]


def test_total_cost_is_limited_at_the_price_that_holds(loop, store, market, run_for) -> None:
    def rise() -> None:
        market.price = "4"

    controller = run_for(3.0, (10.0, rise), limits=Limits(max_instances=2, max_total_cost=Money(2)))
    assert controller.phase is JobPhase.ABORTED
    assert "cost limit reached" in controller.reason
    # Two instances for one interval of a minute.
    assert Money(2) <= store.spending(loop.now()) < Money(2) + Money(8) / 60 * 1.1


def test_failed_request_keeps_the_offers_with_one_warning(store, compute, market, run_for) -> None:
    def set_error(error: Exception | None) -> None:
        market.error = error

    outage = ProviderError("prices are not available", transient=True)
    with capture_logs() as logs:
        controller = run_for(
            2.0,
            (10.0, lambda: set_error(outage)),
            (3000.0, lambda: compute.existing.pop("i-1")),
            (4000.0, lambda: set_error(None)),
            (5000.0, lambda: set_error(outage)),
        )
    assert controller.phase is JobPhase.COMPLETE
    assert len(store.instances()) == 3
    warnings = [line["event"] for line in logs if "could not be read again" in line["event"]]
    assert warnings == ["Prices could not be read again; the earlier ones are used: prices are not available"] * 2


def test_prices_above_the_limits_stop_launches_with_one_warning(store, compute, market, run_for) -> None:
    def set_reason(reason: str) -> None:
        market.reason = reason

    with capture_logs() as logs:
        run_for(
            3.0,
            (10.0, lambda: set_reason("m-8: $20.00 per hour > max_total_price_per_hour $10.00")),
            (1000.0, lambda: compute.existing.clear()),
            (7000.0, lambda: set_reason("")),
        )
    launched = sorted((r.intended_at - store.job.created_at).total_seconds() for r in store.instances())
    assert [seconds < 1000 for seconds in launched] == [True, True, False, False]
    assert launched[2] > 7000
    warnings = [line["event"] for line in logs if "No offer satisfies" in line["event"]]
    assert len(warnings) == 1
    assert warnings[0].endswith("next check in 15m: m-8: $20.00 per hour > max_total_price_per_hour $10.00")


def test_prices_are_not_requested_where_they_do_not_change(loop, events, make_controller, market) -> None:
    controller = make_controller(request_prices=market)
    loop.later(timedelta(seconds=3000), lambda: finish(events))
    loop.later(timedelta(seconds=3600), lambda: None)
    controller.run()
    assert market.requests == []
