"""Types that are left out unless they are asked for: burstable or shared cores, and less than 2 GB per task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.model import (
    Architecture,
    Constraints,
    InstanceType,
    Limits,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
)
from cloud_tasks.selection import Ranking, Unsuitable, filter_types, rank, slots

UNLIMITED = Limits(max_instances=None, max_total_price_per_hour=None)


def a_type(name: str, **changes: object) -> InstanceType:
    base = InstanceType(name=name, vcpus=2, memory_gb=8, architecture=Architecture.X86_64, zones=("z",))
    return attrs.evolve(base, **changes)


MICRO = a_type("e2-micro", memory_gb=1, sustained_cpu=0.125)
BURSTABLE = a_type("t3.2xlarge", vcpus=8, memory_gb=32, sustained_cpu=0.4)
SMALL = a_type("highcpu-2", memory_gb=2)
STANDARD = a_type("standard-2")
TYPES = (MICRO, BURSTABLE, SMALL, STANDARD)


def prices(requests: Sequence[OfferRequest]) -> list[Offer]:
    """Price every vCPU alike, and the surplus credits of a type of the ``t3`` series."""
    return [
        Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            price=PriceBreakdown(
                cpu=Money("0.02") * request.instance_type.vcpus * request.instance_type.sustained_cpu,
                address=Money("0.005"),
                surplus_credits=Money("0.24") if request.instance_type.name.startswith("t3.") else Money.zero(),
            ),
            priced_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for request in requests
    ]


def ranked(*patterns: str, types: Sequence[InstanceType] = TYPES, **constraints: object) -> Ranking:
    given = Constraints(instance_types=tuple(map(re.compile, patterns)), **constraints)
    return rank(types, given, UNLIMITED, prices)


def names(ranking: Ranking) -> set[str]:
    return {each.offer.instance_type.name for each in ranking.offers}


def test_rank_without_constraints_leaves_out_burstable_and_low_memory_types_with_a_note():
    ranking = ranked()
    assert names(ranking) == {"standard-2"}
    assert [(each.instance_type, each.left_out, each.reason) for each in ranking.rejected] == [
        (
            "e2-micro",
            Unsuitable.BURSTABLE,
            "burstable or shared cores: 12.5% of each vCPU is sustained; name it in instance_types to use it",
        ),
        (
            "t3.2xlarge",
            Unsuitable.BURSTABLE,
            "burstable or shared cores: 40% of each vCPU is sustained; name it in instance_types to use it",
        ),
        (
            "highcpu-2",
            Unsuitable.LOW_MEMORY,
            "less than 2 GB of memory per task: 1 GB; set min_memory_per_task to use it",
        ),
    ]
    assert ranking.notes == (
        "Left out, burstable or shared cores: e2-micro, t3.2xlarge; to use them, name one in instance_types",
        "Left out, less than 2 GB of memory per task: highcpu-2; to use them, set min_memory_per_task",
    )


@pytest.mark.parametrize("pattern", ["", ".", ".*", "^.*$", r"\w+", "[a-z0-9]", "(e2-micro)?", "^(?!t3)"])
def test_rank_does_not_take_a_pattern_of_all_types_for_a_name(pattern):
    assert names(ranked(pattern)) == {"standard-2"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("e2-micro", {"e2-micro"}),
        ("^e2-", {"e2-micro"}),
        (r"^t3\.", {"t3.2xlarge"}),
        ("micro|standard", {"e2-micro", "standard-2"}),
        ("highcpu", {"highcpu-2"}),
    ],
)
def test_rank_takes_a_named_type(pattern, expected):
    ranking = ranked(pattern)
    assert names(ranking) == expected
    assert ranking.notes == ()


@pytest.mark.parametrize(
    "constraints",
    [
        {"min_memory_per_task": 0.0},
        {"min_memory_per_cpu": 1.0},
        {"min_total_memory": 2.0},
        {"max_total_memory": 3.0},
        {"max_memory_per_task": 1.0},
        {"max_memory_per_cpu": 1.5},
        {"max_tasks_per_instance": 1},
    ],
)
def test_rank_takes_a_type_with_little_memory_where_the_constraints_ask_for_it(constraints):
    assert "highcpu-2" in names(ranked(**constraints))
    assert "e2-micro" not in names(ranked(**constraints))


def test_rank_leaves_out_low_memory_types_with_a_maximum_that_allows_more():
    assert names(ranked(max_total_memory=64.0, max_memory_per_task=8.0)) == {"standard-2"}


def test_rank_takes_all_types_of_the_users_own_machine():
    assert len(rank(TYPES, Constraints(), UNLIMITED, prices, leave_out=False).offers) == len(TYPES)


def test_rank_leaves_out_unsuitable_types_of_a_spot_fallback_too():
    constraints = Constraints(provisioning_model=ProvisioningModel.SPOT)
    ranking = rank(TYPES, constraints, UNLIMITED, prices, spot_fallback=True)
    assert names(ranking) == {"standard-2"}
    assert len(ranking.notes) == 2


def test_filter_types_lists_every_type_that_satisfies_the_constraints():
    found = filter_types(TYPES, Constraints(), ProvisioningModel.ON_DEMAND)
    assert {request.instance_type.name for request in found.requests} == {each.name for each in TYPES}


def test_rank_counts_a_slot_of_a_shared_core_type_as_the_cpu_that_it_sustains():
    (micro,) = ranked("e2-micro").offers
    assert (micro.slots, micro.speed) == (1, 0.25)
    assert micro.price_per_work == micro.offer.price_per_hour / 0.25
    ranking = ranked("e2-micro", "standard")
    assert ranking.offers[0].offer.instance_type.name == "standard-2"


def test_rank_counts_a_slot_that_pays_for_its_surplus_as_a_whole_cpu():
    (burstable,) = ranked("t3").offers
    assert (burstable.slots, burstable.speed) == (3, 1.0)
    assert burstable.offer.price_per_hour == Money("0.064") + Money("0.005") + Money("0.24")


@pytest.mark.parametrize(
    ("vcpus", "share", "settings", "expected"),
    [
        (2, 0.05, {}, 1),
        (8, 0.4, {}, 3),
        (8, 0.25, {}, 2),
        (10, 0.1, {}, 1),
        (8, 0.4, {"cpus_per_task": 2}, 1),
        (2, 0.5, {"cpus_per_task": 4}, 0),
        (8, 0.4, {"min_tasks_per_instance": 8}, 8),
        (8, 0.4, {"max_tasks_per_instance": 2}, 2),
        (8, 1.0, {}, 8),
    ],
)
def test_slots_are_those_of_the_sustained_cores(vcpus, share, settings, expected):
    assert slots(vcpus, Constraints(**settings), sustained_cpu=share) == expected


TYPE = st.builds(
    a_type,
    st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True),
    vcpus=st.integers(1, 96),
    memory_gb=st.floats(0.25, 512),
    sustained_cpu=st.sampled_from([0.05, 0.1, 0.125, 0.2, 0.25, 0.4, 0.5, 1.0]),
)


@given(st.lists(TYPE, max_size=8, unique_by=lambda each: each.name), st.data())
def test_rank_never_leaves_out_a_named_type(types, data):
    named = data.draw(st.sampled_from(types)) if types else STANDARD
    exact = data.draw(st.sampled_from([named.name, re.escape(named.name), f"^{re.escape(named.name)}$"]))
    ranking = ranked(exact, types=[*types, named] if named not in types else types)
    assert named.name in names(ranking)
    assert not any(each.left_out for each in ranking.rejected if each.instance_type == named.name)


@given(st.lists(TYPE, max_size=8, unique_by=lambda each: each.name))
def test_rank_without_names_selects_types_with_cores_and_memory_for_every_slot(types):
    ranking = ranked(types=types)
    for each in ranking.offers:
        instance_type = each.offer.instance_type
        assert instance_type.sustained_cpu == 1
        assert instance_type.memory_gb >= 1.8 * each.slots
        assert each.slots == instance_type.vcpus
    left_out = {each.instance_type for each in ranking.rejected}
    assert left_out | names(ranking) == {each.name for each in types}


@given(st.lists(st.decimals(0, 100, places=6), min_size=9, max_size=9))
def test_total_is_the_sum_of_all_components(amounts):
    fields = [field.name for field in attrs.fields(PriceBreakdown)]
    price = PriceBreakdown(**dict(zip(fields, map(Money, amounts), strict=True)))
    assert price.total == Money(sum(amounts))
    assert sum(price.parts().values(), Money.zero()) == price.total
    rest = ("boot_disk", "boot_disk_iops", "boot_disk_throughput", "address", "surplus_credits")
    assert price.machine == price.total - sum((getattr(price, name) for name in rest), Money.zero())


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_instance_type_refuses_a_sustained_share_out_of_range(share):
    with pytest.raises(ValueError, match="sustained_cpu"):
        a_type("odd", sustained_cpu=share)
