"""Forecast of duration and cost on one offer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from controller_fakes import ranked

from cloud_tasks.model import Limits, Money
from cloud_tasks.selection import forecast

OFFER = ranked(price="0.80", vcpus=8)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("tasks", [0, 1, 8, 9, 100, 10_000])
def test_forecast_fleet_is_within_the_limits_and_filled_by_the_tasks(tasks: int) -> None:
    limits = Limits(max_instances=50, max_total_cpus=100, max_total_price_per_hour=Money(5))
    found = forecast(OFFER, limits, tasks=tasks)
    assert found.instances == min(-(-tasks // 8), 6)


def test_forecast_counts_the_last_wave_as_a_full_one() -> None:
    found = forecast(OFFER, Limits(max_instances=1), tasks=17, task_time=MINUTE, boot_time=2 * MINUTE)
    assert found.duration == 5 * MINUTE
    assert found.cost is not None
    assert found.cost.format(6) == "$0.066667"


def test_forecast_without_number_of_tasks_uses_the_limits() -> None:
    assert forecast(OFFER, Limits(max_instances=4), tasks=None, task_time=MINUTE).instances == 4
    unlimited = Limits(max_instances=None, max_total_price_per_hour=None)
    assert forecast(OFFER, unlimited, tasks=None).instances is None


def test_forecast_of_no_tasks_costs_nothing() -> None:
    found = forecast(OFFER, Limits(), tasks=0, task_time=MINUTE)
    assert (found.instances, found.duration, found.cost) == (0, timedelta(0), Money.zero())


def test_forecast_reports_an_exceeded_cost_limit() -> None:
    enough, short = (Limits(max_instances=1, max_total_cost=Money(limit)) for limit in (1, "0.79"))
    assert not forecast(OFFER, enough, tasks=8, task_time=60 * MINUTE).exceeds_total_cost
    assert forecast(OFFER, short, tasks=8, task_time=60 * MINUTE).exceeds_total_cost
