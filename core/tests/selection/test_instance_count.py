"""The number of instances, by limits and remaining tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.model import (
    Architecture,
    BootDisk,
    InstanceType,
    Limits,
    Money,
    Offer,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.selection import (
    FleetTotals,
    RankedOffer,
    additional_instances,
    allowed_instances,
)

UNLIMITED = Limits(max_instances=None, max_total_price_per_hour=None)


def an_offer(vcpus: int = 4, slots: int | None = None, price: Money | str = "1") -> RankedOffer:
    price = price if isinstance(price, Money) else Money(price)
    instance_type = InstanceType(
        name=f"t{vcpus}", vcpus=vcpus, memory_gb=4, architecture=Architecture.X86_64, zones=("z",)
    )
    offer = Offer(
        instance_type=instance_type,
        zone="z",
        provisioning_model=ProvisioningModel.ON_DEMAND,
        boot_disk=BootDisk(disk_type="", size_gb=10),
        price=PriceBreakdown(cpu=price),
        priced_at=datetime(2025, 1, 1, tzinfo=UTC),
    )
    count = vcpus if slots is None else slots
    return RankedOffer(offer=offer, slots=count, price_per_slot=price / count)


def to_launch(limits: Limits, remaining: int, **changes: object) -> int:
    arguments = {"ranked": an_offer(), "current": FleetTotals(), **changes}
    return additional_instances(limits=limits, remaining_tasks=remaining, **arguments)


@pytest.mark.parametrize(("remaining", "expected"), [(0, 0), (1, 1), (4, 1), (5, 2), (1000, 250)])
def test_additional_instances_without_limits_follow_the_remaining_tasks(remaining, expected):
    assert to_launch(UNLIMITED, remaining) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_instances": 7}, 7),
        ({"max_total_cpus": 19}, 4),
        ({"max_simultaneous_tasks": 11}, 2),
        ({"max_total_price_per_hour": Money("3.99")}, 3),
        ({"max_instances": 7, "max_total_cpus": 1000, "max_total_price_per_hour": Money(5)}, 5),
    ],
)
def test_additional_instances_follow_the_tightest_limit(limits, expected):
    assert to_launch(attrs.evolve(UNLIMITED, **limits), 1000) == expected


def test_additional_instances_check_limits_on_totals():
    current = FleetTotals(instances=4, vcpus=16, slots=16, price_per_hour=Money(4))
    assert to_launch(attrs.evolve(UNLIMITED, max_instances=5), 1000, current=current) == 1
    assert to_launch(attrs.evolve(UNLIMITED, max_total_cpus=23), 1000, current=current) == 1
    assert to_launch(attrs.evolve(UNLIMITED, max_total_price_per_hour=Money(4)), 1000, current=current) == 0
    assert to_launch(UNLIMITED, 18, current=current) == 1


def test_additional_instances_of_a_fleet_beyond_a_limit_are_zero():
    current = FleetTotals(instances=40, vcpus=160, slots=160, price_per_hour=Money(40))
    for limits in ({"max_instances": 5}, {"max_total_cpus": 8}, {"max_total_price_per_hour": Money(5)}):
        assert to_launch(attrs.evolve(UNLIMITED, **limits), 10_000, current=current) == 0


def test_additional_instances_of_a_free_offer_follow_the_other_limits():
    free = an_offer(price="0")
    limits = attrs.evolve(UNLIMITED, max_total_price_per_hour=Money(1), max_total_cost=Money(1), max_instances=3)
    assert to_launch(limits, 1000, ranked=free) == 3


def test_additional_instances_ignore_minima_beyond_the_work():
    assert to_launch(attrs.evolve(UNLIMITED, min_instances=5, min_total_cpus=100), 3) == 1


def test_additional_instances_reserve_the_committed_cost():
    limits = attrs.evolve(UNLIMITED, max_total_cost=Money(10))
    hour = timedelta(hours=1)
    assert to_launch(limits, 1000, commitment=hour) == 10
    assert to_launch(limits, 1000, commitment=hour, accrued=Money("7.5")) == 2
    running = FleetTotals(instances=2, vcpus=8, slots=8, price_per_hour=Money(2))
    assert to_launch(limits, 1000, commitment=hour, accrued=Money("7.5"), current=running) == 0
    assert to_launch(limits, 1000, accrued=Money(10), ranked=an_offer(price="0")) == 0


def test_allowed_instances_is_none_without_limits():
    assert allowed_instances(UNLIMITED, an_offer()) is None
    assert allowed_instances(Limits(max_instances=10, max_total_cpus=9), an_offer()) == 2


cents = st.integers(0, 500).map(lambda n: Money(Decimal(n) / 100))
some = st.one_of(st.none(), st.integers(1, 60))
limits_strategy = st.builds(
    Limits,
    min_instances=some,
    max_instances=some,
    min_total_cpus=some,
    max_total_cpus=some,
    max_simultaneous_tasks=some,
    max_total_price_per_hour=st.one_of(st.none(), cents),
    max_total_cost=st.one_of(st.none(), cents),
)
totals_strategy = st.builds(
    FleetTotals,
    instances=st.integers(0, 40),
    vcpus=st.integers(0, 80),
    slots=st.integers(0, 80),
    price_per_hour=cents,
)
offers_strategy = st.builds(an_offer, vcpus=st.integers(1, 16), slots=st.integers(1, 20), price=cents)


@given(limits_strategy, offers_strategy, totals_strategy, st.integers(0, 300), cents)
def test_additional_instances_never_exceed_a_limit_or_the_work(limits, ranked, current, remaining, accrued):
    count = additional_instances(
        limits=limits, ranked=ranked, remaining_tasks=remaining, current=current, accrued=accrued
    )
    assert count >= 0
    if not count:
        return
    price = current.price_per_hour + ranked.offer.price_per_hour * count
    assert limits.max_instances is None or current.instances + count <= limits.max_instances
    assert (
        limits.max_total_cpus is None
        or current.vcpus + count * ranked.offer.instance_type.vcpus <= limits.max_total_cpus
    )
    assert (
        limits.max_simultaneous_tasks is None or current.slots + count * ranked.slots <= limits.max_simultaneous_tasks
    )
    assert limits.max_total_price_per_hour is None or price <= limits.max_total_price_per_hour
    if limits.max_total_cost is not None:
        five_minutes = price.usd * 300 / 3600
        assert accrued.usd + five_minutes <= limits.max_total_cost.usd + Decimal("1e-20")
    assert current.slots + (count - 1) * ranked.slots < remaining


@given(limits_strategy, offers_strategy, totals_strategy, st.integers(0, 300))
def test_additional_instances_are_the_maximum_allowed(limits, ranked, current, remaining):
    limits = attrs.evolve(limits, max_total_cost=None)
    count = additional_instances(limits=limits, ranked=ranked, remaining_tasks=remaining, current=current)
    after = FleetTotals(
        instances=current.instances + count,
        vcpus=current.vcpus + count * ranked.offer.instance_type.vcpus,
        slots=current.slots + count * ranked.slots,
        price_per_hour=current.price_per_hour + ranked.offer.price_per_hour * count,
    )
    assert additional_instances(limits=limits, ranked=ranked, remaining_tasks=remaining, current=after) == 0
