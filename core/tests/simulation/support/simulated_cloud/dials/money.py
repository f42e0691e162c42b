"""Money: spot prices that move, charges beside the machine, types that sustain a share of their CPUs, large images."""

from __future__ import annotations

import random
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from cloud_tasks.model import (
    Architecture,
    Constraints,
    Image,
    Money,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
)
from simulated_cloud.dials.dial import Dial, with_budget, with_group, with_long_tasks

if TYPE_CHECKING:
    from simulated_cloud.scenario import Scenario

__all__ = ["BURSTABLE", "DIALS", "MoneyFaults", "allowed_slots"]

BURSTABLE = "burst"
"""Family of types that sustain a share of their CPUs."""


@attrs.frozen(kw_only=True)
class MoneyFaults:
    """What instances cost beside a constant price of the machine, and what they are worth."""

    seed: int = 0
    price_interval: timedelta | None = None
    """Time between two changes of the spot prices; None: they do not change."""
    max_rise: float = 1.0
    """Highest spot price, as a multiple of that of the catalogue."""
    takes_maximum: bool = False
    """Whether the provider takes a maximum price of a spot instance."""
    address: Money = Money.zero()
    """Price of the public address of an instance, per hour."""
    sustained_cpu: float = 1.0
    """Share of their CPUs that the burstable types of the catalogue sustain; 1: the catalogue has none."""

    surplus: Money = Money.zero()
    """Charge for surplus credits of a burstable type with all CPUs busy, per vCPU and hour."""
    image_gb: float = 0.0
    """Size of the boot image: the provider makes no boot disk smaller."""

    @property
    def image(self) -> Image:
        """The boot image."""
        return Image(name="image", uri="image", architecture=Architecture.X86_64, min_disk_gb=self.image_gb)

    def charges(self, offer: Offer, elapsed: timedelta) -> PriceBreakdown:
        """Return the price of an offer with all that is charged beside it.

        Args:
            elapsed: Time since the start of the simulation.
        """
        is_burstable = offer.instance_type.name.startswith(BURSTABLE)
        return attrs.evolve(
            offer.price,
            cpu=offer.price.cpu * self.rise(offer, elapsed),
            address=self.address,
            surplus_credits=self.surplus * offer.instance_type.vcpus if is_burstable else Money.zero(),
        )

    def made(self, request: OfferRequest) -> OfferRequest:
        """Return the request for what the provider makes of a requested instance."""
        disk = attrs.evolve(request.boot_disk, size_gb=max(request.boot_disk.size_gb, self.image_gb))
        return attrs.evolve(request, boot_disk=disk)

    def rise(self, offer: Offer, elapsed: timedelta) -> float:
        """Return the present price of the machine as a multiple of that of the catalogue.

        Args:
            elapsed: Time since the start of the simulation.
        """
        if self.price_interval is None or offer.provisioning_model is not ProvisioningModel.SPOT:
            return 1.0
        step = elapsed // self.price_interval
        own = random.Random(f"price/{self.seed}/{offer.instance_type.name}/{offer.zone}/{step}")
        return own.uniform(1, self.max_rise) if step else 1.0

    def sustained(self, type_name: str) -> float:
        """Return the share of its CPUs that a type sustains."""
        return self.sustained_cpu if type_name.startswith(BURSTABLE) else 1.0


def allowed_slots(vcpus: int, sustained_cpu: float, constraints: Constraints, type_name: str) -> int:
    """Return the maximum number of task slots of an instance of a burstable type: none unless it is named."""
    if not any(pattern.search(type_name) for pattern in constraints.instance_types):
        return 0
    return max(1, int(vcpus * sustained_cpu / constraints.cpus_per_task + 1e-9))


def _moving_prices(rng: random.Random, scenario: Scenario) -> Scenario:
    interval, rise = timedelta(minutes=rng.choice((5, 20))), rng.uniform(2, 4)
    # A job of hours, so that prices change often.
    scenario = with_budget(rng, with_long_tasks(scenario))
    takes = rng.random() < 0.5
    return with_group(
        scenario, "money", seed=scenario.seed, price_interval=interval, max_rise=rise, takes_maximum=takes
    )


def _addresses(rng: random.Random, scenario: Scenario) -> Scenario:
    scenario = with_budget(rng, with_long_tasks(scenario))
    return with_group(scenario, "money", address=Money(rng.choice(("0.005", "0.05"))))


def _burstable(rng: random.Random, scenario: Scenario) -> Scenario:
    if rng.random() < 0.3:
        named = attrs.evolve(scenario.constraints, instance_types=(re.compile(f"^{BURSTABLE}-"),))
        scenario = attrs.evolve(scenario, constraints=named)
    return with_group(with_budget(rng, scenario), "money", sustained_cpu=rng.choice((0.05, 0.2, 0.4)))


def _surplus(rng: random.Random, scenario: Scenario) -> Scenario:
    named = attrs.evolve(scenario.constraints, instance_types=(re.compile(f"^{BURSTABLE}-"),))
    scenario = with_budget(rng, attrs.evolve(scenario, constraints=named))
    sustained = min(scenario.faults.money.sustained_cpu, rng.choice((0.2, 0.4)))
    return with_group(scenario, "money", sustained_cpu=sustained, surplus=Money(rng.choice(("0.02", "0.05"))))


def _image_disks(rng: random.Random, scenario: Scenario) -> Scenario:
    scenario = with_budget(rng, with_long_tasks(scenario))
    return with_group(scenario, "money", image_gb=rng.choice((50.0, 500.0, 2000.0)))


DIALS = (
    Dial(
        name="moving prices",
        shows="the limit on the total cost holds for the prices that are charged, not for those of the start",
        turn_on=_moving_prices,
    ),
    Dial(
        name="addresses",
        shows="the limits cover what is charged beside the machine and its disk",
        turn_on=_addresses,
    ),
    Dial(
        name="burstable types",
        shows="a type that sustains a share of its CPUs is used only by name, with fewer slots",
        turn_on=_burstable,
    ),
    Dial(
        name="surplus credits",
        shows="the limits cover what a burstable type is charged with all CPUs busy",
        turn_on=_surplus,
        probability=0.1,
    ),
    Dial(
        name="image disks",
        shows="the limits cover a boot disk that is as large as its image",
        turn_on=_image_disks,
    ),
)
