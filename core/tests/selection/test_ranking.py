"""Filter and ranking of offers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
import pytest

from cloud_tasks.errors import InputError
from cloud_tasks.model import (
    Architecture,
    BootDisk,
    Constraints,
    InstanceType,
    Limits,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
    Unpriced,
)
from cloud_tasks.selection import Prefer, Ranking, boot_disk_gb, filter_types, rank, slots

PRICED_AT = datetime(2025, 6, 11, tzinfo=UTC)
UNLIMITED = Limits(max_instances=None, max_total_price_per_hour=None)


def a_type(name: str = "std-8", **changes: object) -> InstanceType:
    base = InstanceType(
        name=name,
        vcpus=8,
        memory_gb=32,
        architecture=Architecture.X86_64,
        zones=("r1-a", "r1-b"),
        boot_disk_types=("slow", "fast"),
        cpu_family="Intel Cascade Lake",
        cpu_rank=12,
    )
    return attrs.evolve(base, **changes)


class PriceList:
    """Price function: prices by type name, plus $0.01 for a disk and $0.02 for a fast one; records its calls."""

    def __init__(self, **per_hour: float) -> None:
        self.per_hour = {name.replace("_", "-"): price for name, price in per_hour.items()}
        self.calls: list[Sequence[OfferRequest]] = []

    def __call__(self, requests: Sequence[OfferRequest]) -> list[Offer | Unpriced]:
        self.calls.append(requests)
        return [self._answer(request) for request in requests]

    def _answer(self, request: OfferRequest) -> Offer | Unpriced:
        price = self.per_hour.get(request.instance_type.name)
        if price is None:
            return Unpriced(request=request, reason="not in the catalogue")
        if request.provisioning_model is ProvisioningModel.SPOT:
            price = price / 4
        disk = Money("0.02") if request.boot_disk.disk_type == "fast" else Money("0.01")
        return Offer(
            instance_type=request.instance_type,
            zone=request.zone,
            provisioning_model=request.provisioning_model,
            boot_disk=request.boot_disk,
            price=PriceBreakdown(cpu=Money(price), boot_disk=disk),
            priced_at=PRICED_AT,
        )


def order(ranking: Ranking) -> list[str]:
    return [f"{ranked.offer.instance_type.name} {ranked.offer.zone}" for ranked in ranking.offers]


def reason(
    constraints: Constraints,
    instance_type: InstanceType,
    provisioning_model: ProvisioningModel = ProvisioningModel.ON_DEMAND,
) -> str:
    found = filter_types([instance_type], constraints, provisioning_model)
    assert found.requests == ()
    (rejection,) = found.rejected
    assert rejection.instance_type == instance_type.name
    return rejection.reason


@pytest.mark.parametrize(
    ("vcpus", "settings", "expected"),
    [
        (8, {}, 8),
        (8, {"cpus_per_task": 3}, 2),
        (8, {"cpus_per_task": 0.1}, 80),
        (2, {"cpus_per_task": 4}, 0),
        (2, {"cpus_per_task": 4, "min_tasks_per_instance": 1}, 1),
        (64, {"max_tasks_per_instance": 10}, 10),
    ],
)
def test_slots_are_whole_shares_of_the_vcpus_within_limits(vcpus, settings, expected):
    assert slots(vcpus, Constraints(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 10.0),
        ({"boot_disk_base_size": 25.0}, 25.0),
        ({"boot_disk_base_size": 5.0, "boot_disk_per_cpu": 2.0}, 21.0),
        ({"boot_disk_base_size": 5.0, "boot_disk_per_task": 10.0}, 45.0),
        ({"total_boot_disk_size": 100.0, "boot_disk_per_cpu": 2.0, "boot_disk_per_task": 10.0}, 100.0),
        ({"total_boot_disk_size": None}, 0.0),
    ],
)
def test_boot_disk_gb_is_the_largest_requirement(settings, expected):
    assert boot_disk_gb(8, 4, Constraints(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "changes", "expected"),
    [
        ({"min_cpu": 8}, {"vcpus": 4}, "4 vCPUs < min_cpu 8"),
        ({"max_cpu": 8}, {"vcpus": 16}, "16 vCPUs > max_cpu 8"),
        ({"architecture": Architecture.ARM64}, {}, "architecture x86_64 is not arm64"),
        ({"instance_types": (re.compile("^n2"),)}, {}, "name matches none of instance_types (^n2)"),
        ({"cpu_family": "AMD Rome"}, {}, "CPU family Intel Cascade Lake is not AMD Rome (cpu_family)"),
        ({"min_cpu_rank": 13}, {}, "CPU rank 12 < min_cpu_rank 13"),
        ({"max_cpu_rank": 11}, {}, "CPU rank 12 > max_cpu_rank 11"),
        ({"min_cpu_rank": 1}, {"cpu_rank": 0}, "CPU rank 0 (unknown) < min_cpu_rank 1"),
        ({"min_total_memory": 64}, {}, "32 GB memory < min_total_memory 64"),
        ({"max_total_memory": 16}, {}, "32 GB memory > max_total_memory 16"),
        ({"min_memory_per_cpu": 6}, {}, "4 GB per CPU < min_memory_per_cpu 6"),
        ({"max_memory_per_cpu": 2}, {}, "4 GB per CPU > max_memory_per_cpu 2"),
        (
            {"min_memory_per_task": 9, "cpus_per_task": 2},
            {},
            "8 GB per task (4 tasks) < min_memory_per_task 9",
        ),
        ({"max_memory_per_task": 3}, {}, "4 GB per task (8 tasks) > max_memory_per_task 3"),
        ({"min_local_ssd": 1}, {}, "0 GB local SSD < min_local_ssd 1"),
        ({"max_local_ssd": 100}, {"local_ssd_gb": 375}, "375 GB local SSD > max_local_ssd 100"),
        (
            {"min_local_ssd_per_cpu": 50, "local_ssd_base_size": 15},
            {"local_ssd_gb": 375},
            "45 GB local SSD per CPU beyond the base of 15 < min_local_ssd_per_cpu 50",
        ),
        (
            {"max_local_ssd_per_cpu": 40},
            {"local_ssd_gb": 400},
            "50 GB local SSD per CPU > max_local_ssd_per_cpu 40",
        ),
        (
            {"min_local_ssd_per_task": 100, "cpus_per_task": 4},
            {"local_ssd_gb": 100},
            "50 GB local SSD per task (2 tasks) < min_local_ssd_per_task 100",
        ),
        (
            {"max_local_ssd_per_task": 10},
            {"local_ssd_gb": 160},
            "20 GB local SSD per task (8 tasks) > max_local_ssd_per_task 10",
        ),
        ({"local_ssd_base_size": 10}, {"local_ssd_gb": 5}, "5 GB local SSD < local_ssd_base_size 10"),
        ({"min_gpus": 1}, {}, "0 GPUs < min_gpus 1"),
        ({"max_gpus": 0}, {"gpu_count": 2}, "2 GPUs > max_gpus 0"),
        ({"gpu_types": ("L4",)}, {}, "GPU type none is not one of L4 (gpu_types)"),
        ({"cpus_per_task": 16}, {}, "8 vCPUs < cpus_per_task 16"),
        (
            {"boot_disk_types": ("hyper",)},
            {},
            "no boot disk of type hyper (boot_disk_types), only slow, fast",
        ),
        ({"zone": "r1-c"}, {}, "not offered in zone r1-c, only in r1-a, r1-b"),
        ({}, {"zones": ()}, "not offered in any zone of the region"),
    ],
)
def test_filter_types_rejects_a_type_with_the_figures(settings, changes, expected):
    assert reason(Constraints(**settings), a_type(**changes)) == expected


def test_filter_types_rejects_a_type_without_spot():
    assert reason(Constraints(), a_type(supports_spot=False), ProvisioningModel.SPOT) == "not offered as spot"


def test_filter_types_accepts_a_value_at_its_bound():
    constraints = Constraints(
        min_cpu=8,
        max_cpu=8,
        min_cpu_rank=12,
        max_cpu_rank=12,
        min_memory_per_cpu=4,
        max_memory_per_cpu=4,
        cpu_family="intel cascade lake",
        instance_types=(re.compile("d-8"),),
    )
    found = filter_types([a_type()], constraints, ProvisioningModel.ON_DEMAND)
    assert found.rejected == ()
    assert len(found.requests) == 4


def test_filter_types_yields_every_zone_and_usable_boot_disk_type():
    constraints = Constraints(boot_disk_types=("FAST", "hyper"), boot_disk_iops=3000, boot_disk_throughput=140)
    found = filter_types([a_type()], constraints, ProvisioningModel.ON_DEMAND)
    disk = BootDisk(disk_type="fast", size_gb=10.0, iops=3000, throughput_mb_s=140)
    assert [(request.zone, request.boot_disk) for request in found.requests] == [("r1-a", disk), ("r1-b", disk)]


def test_filter_types_ignores_boot_disk_types_of_a_provider_without_boot_disks():
    found = filter_types(
        [a_type(boot_disk_types=())], Constraints(boot_disk_types=("fast",)), ProvisioningModel.ON_DEMAND
    )
    assert [request.boot_disk.disk_type for request in found.requests] == ["", ""]


def test_rank_puts_the_lowest_price_per_slot_first_with_one_price_request():
    prices = PriceList(std_8=0.80, std_4=0.30, std_16=2.00)
    types = [a_type("std-8"), a_type("std-4", vcpus=4), a_type("std-16", vcpus=16)]
    ranking = rank(types, Constraints(), UNLIMITED, prices)
    assert order(ranking) == ["std-4 r1-a", "std-4 r1-b", "std-8 r1-a", "std-8 r1-b", "std-16 r1-a", "std-16 r1-b"]
    assert ranking.offers[0].price_per_slot == Money("0.0775")
    assert ranking.offers[0].slots == 4
    assert len(prices.calls) == 1


def test_rank_includes_the_cheapest_usable_boot_disk():
    ranking = rank([a_type(zones=("r1-a",))], Constraints(), UNLIMITED, PriceList(std_8=0.79))
    (best,) = ranking.offers
    assert best.offer.boot_disk.disk_type == "slow"
    assert best.offer.price_per_hour == Money("0.80")
    assert "boot_disk_types" in ranking.warnings[0]


def test_rank_does_not_warn_with_boot_disk_types():
    constraints = Constraints(boot_disk_types=("slow", "fast"))
    assert rank([a_type()], constraints, UNLIMITED, PriceList(std_8=1)).warnings == ()


def test_rank_breaks_ties_by_vcpus_rank_name_and_zone():
    class Even(PriceList):
        def _answer(self, request: OfferRequest) -> Offer | Unpriced:
            self.per_hour[request.instance_type.name] = 0.1 * request.instance_type.vcpus - 0.01
            return super()._answer(request)

    types = [
        a_type("b", vcpus=4, zones=("r1-b", "r1-a")),
        a_type("a", vcpus=4, zones=("r1-a",)),
        a_type("new", vcpus=4, cpu_rank=20, zones=("r1-a",)),
        a_type("big", vcpus=8, zones=("r1-a",)),
    ]
    constraints = Constraints(boot_disk_types=("slow",))
    expected = ["big r1-a", "new r1-a", "a r1-a", "b r1-a", "b r1-b"]
    assert order(rank(types, constraints, UNLIMITED, Even())) == expected
    assert order(rank(reversed(types), constraints, UNLIMITED, Even())) == expected


def test_rank_with_speed_prefers_a_faster_family_per_work():
    types = [a_type("old", zones=("z",)), a_type("new", zones=("z",), cpu_family="AMD Turin", cpu_rank=26)]
    prices = PriceList(old=0.80, new=1.20)
    assert order(rank(types, Constraints(), UNLIMITED, prices)) == ["old z", "new z"]
    ranking = rank(types, Constraints(), UNLIMITED, prices, speed={"amd turin": 2.0})
    assert order(ranking) == ["new z", "old z"]
    assert ranking.offers[0].price_per_work == ranking.offers[0].price_per_slot / 2


def test_rank_rejects_a_speed_of_zero():
    with pytest.raises(InputError, match="not above 0"):
        rank([a_type()], Constraints(), UNLIMITED, PriceList(std_8=1), speed={"AMD Turin": 0})


def test_rank_preferring_speed_takes_the_fastest_family():
    types = [a_type("old", zones=("z",)), a_type("new", zones=("z",), cpu_rank=26), a_type("weighed", zones=("z",))]
    types[2] = attrs.evolve(types[2], cpu_family="Special")
    prices = PriceList(old=0.5, new=5, weighed=9)
    ranking = rank(types, Constraints(), UNLIMITED, prices, prefer=Prefer.SPEED, speed={"Special": 1.5})
    assert order(ranking) == ["weighed z", "new z", "old z"]


def test_rank_preferring_availability_takes_a_type_of_more_zones():
    types = [
        a_type("rare", zones=("r1-a",)),
        a_type("common", zones=("r1-a", "r1-b", "r1-c")),
        a_type("expensive", zones=("r1-a", "r1-b", "r1-c", "r1-d")),
    ]
    ranking = rank(
        types, Constraints(), UNLIMITED, PriceList(rare=1.00, common=1.10, expensive=9), prefer=Prefer.AVAILABILITY
    )
    assert order(ranking)[:4] == ["common r1-a", "common r1-b", "common r1-c", "rare r1-a"]


def test_rank_rejects_an_offer_without_a_price_and_ranks_the_others():
    types = [a_type("std-8"), a_type("secret", zones=("r1-a",))]
    ranking = rank(types, Constraints(), UNLIMITED, PriceList(std_8=1))
    assert order(ranking) == ["std-8 r1-a", "std-8 r1-b"]
    (rejection,) = ranking.rejected
    assert (rejection.instance_type, rejection.zone) == ("secret", "r1-a")
    assert rejection.reason == "no price: not in the catalogue"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_total_price_per_hour": Money("0.5")}, "$1.01 per hour > max_total_price_per_hour $0.50"),
        ({"max_total_cpus": 6}, "8 vCPUs > max_total_cpus 6"),
        ({"max_simultaneous_tasks": 7}, "8 tasks per instance > max_simultaneous_tasks 7"),
        (
            {"max_instances": 2, "min_total_cpus": 17},
            "at most 2 instances within the limits: 16 vCPUs < min_total_cpus 17",
        ),
        (
            {"max_total_cpus": 20, "min_instances": 3},
            "at most 2 instances within the limits: 2 < min_instances 3",
        ),
        (
            {"max_instances": 2, "min_simultaneous_tasks": 20},
            "at most 2 instances within the limits: 16 simultaneous tasks < min_simultaneous_tasks 20",
        ),
        (
            {"max_instances": 2, "min_total_price_per_hour": Money(3)},
            "at most 2 instances within the limits: $2.02 per hour < min_total_price_per_hour $3.00",
        ),
    ],
)
def test_rank_rejects_an_offer_that_exceeds_a_limit_alone(limits, expected):
    ranking = rank([a_type(zones=("z",))], Constraints(), attrs.evolve(UNLIMITED, **limits), PriceList(std_8=1))
    assert ranking.offers == ()
    assert [rejection.reason for rejection in ranking.rejected] == [expected]


def test_rank_with_fallback_puts_on_demand_after_spot():
    constraints = Constraints(provisioning_model=ProvisioningModel.SPOT)
    types = [a_type("expensive", zones=("z",)), a_type("cheap", zones=("z",)), a_type("no-spot", supports_spot=False)]
    ranking = rank(types, constraints, UNLIMITED, PriceList(expensive=40, cheap=1, no_spot=1), spot_fallback=True)
    found = [(ranked.offer.instance_type.name, ranked.offer.provisioning_model) for ranked in ranking.offers]
    assert found[:2] == [("cheap", ProvisioningModel.SPOT), ("expensive", ProvisioningModel.SPOT)]
    assert {provisioning_model for _, provisioning_model in found[2:]} == {ProvisioningModel.ON_DEMAND}
    assert "no-spot" in [name for name, _ in found[2:]]


def test_rank_ranks_or_rejects_every_type():
    types = [a_type(f"t-{vcpus}", vcpus=vcpus) for vcpus in (1, 2, 4, 8, 16, 32)]
    found = filter_types(types, Constraints(min_cpu=4, max_cpu=16), ProvisioningModel.ON_DEMAND)
    wanted = {request.instance_type.name for request in found.requests}
    rejected = {rejection.instance_type for rejection in found.rejected}
    assert wanted == {"t-4", "t-8", "t-16"}
    assert rejected == {"t-1", "t-2", "t-32"}


def test_rank_of_ten_thousand_offers():
    types = [
        a_type(f"t-{n:04}", vcpus=1 + n % 64, memory_gb=128, zones=tuple(f"z{z}" for z in range(10)))
        for n in range(1000)
    ]
    prices = PriceList(**{instance_type.name: 0.05 * instance_type.vcpus for instance_type in types})
    ranking = rank(types, Constraints(), UNLIMITED, prices)
    assert len(ranking.offers) == 10_000
    work = [ranked.price_per_work for ranked in ranking.offers]
    assert work == sorted(work)
