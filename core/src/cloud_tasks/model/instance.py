"""Machines: the types that exist, what they are offered for, and those that run."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs

from cloud_tasks.model.money import Money

__all__ = [
    "Architecture",
    "BootDisk",
    "Headroom",
    "Image",
    "Instance",
    "InstanceIdentity",
    "InstanceState",
    "InstanceType",
    "LaunchRequest",
    "Offer",
    "OfferRequest",
    "PriceBreakdown",
    "Purchase",
    "Region",
    "TerminationNotice",
    "Unpriced",
]


class Architecture(enum.Enum):
    X86_64 = "x86_64"
    ARM64 = "arm64"


class Purchase(enum.Enum):
    """How an instance is bought."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


@attrs.frozen(kw_only=True)
class Region:
    name: str
    zones: tuple[str, ...]
    description: str = ""


@attrs.frozen(kw_only=True)
class Image:
    """A boot image."""

    name: str
    """What users write in ``image:``."""
    uri: str
    """What the provider's API takes."""
    architecture: Architecture
    family: str = ""
    owner: str = ""
    """Who publishes it; ``self``: it is the account's own."""
    description: str = ""
    created_at: datetime | None = None


@attrs.frozen(kw_only=True)
class InstanceType:
    """One machine type of a provider, in one region."""

    name: str
    vcpus: int
    memory_gb: float
    architecture: Architecture
    zones: tuple[str, ...]
    """The zones of the region in which it exists."""
    local_ssd_gb: float = 0.0
    boot_disk_types: tuple[str, ...] = ()
    """The boot disk types that it can use, cheapest first where the provider knows."""
    cpu_family: str = ""
    """E.g. ``Intel Cascade Lake``; empty when unknown."""
    cpu_rank: int = 0
    """Performance rank of the family, oldest first; 0 when unknown."""
    gpu_count: int = 0
    gpu_type: str = ""
    supports_spot: bool = True
    description: str = ""


@attrs.frozen(kw_only=True)
class BootDisk:
    disk_type: str
    """Empty where the provider has no boot disks of its own (``local``)."""
    size_gb: float
    iops: int | None = None
    throughput_mb_s: int | None = None


@attrs.frozen(kw_only=True)
class OfferRequest:
    """What a price is asked for."""

    instance_type: InstanceType
    zone: str
    purchase: Purchase
    boot_disk: BootDisk


@attrs.frozen(kw_only=True)
class PriceBreakdown:
    """Prices per hour of the parts of one instance; their sum is what it costs."""

    cpu: Money = Money.zero()
    memory: Money = Money.zero()
    local_ssd: Money = Money.zero()
    gpu: Money = Money.zero()
    boot_disk: Money = Money.zero()
    boot_disk_iops: Money = Money.zero()
    boot_disk_throughput: Money = Money.zero()

    @property
    def total(self) -> Money:
        return (
            self.cpu
            + self.memory
            + self.local_ssd
            + self.gpu
            + self.boot_disk
            + self.boot_disk_iops
            + self.boot_disk_throughput
        )


@attrs.frozen(kw_only=True)
class Offer:
    """An instance type that can be bought: where, how, with which disk, for how much."""

    instance_type: InstanceType
    zone: str
    purchase: Purchase
    boot_disk: BootDisk
    price: PriceBreakdown
    priced_at: datetime
    """When the provider said so (UTC); its age is shown wherever the price is."""

    @property
    def price_per_hour(self) -> Money:
        return self.price.total


@attrs.frozen(kw_only=True)
class Unpriced:
    """A request that has no price, and why; it never stops the others."""

    request: OfferRequest
    reason: str


@attrs.frozen(kw_only=True)
class Headroom:
    """How far the account's quotas reach."""

    instances: int
    """How many more instances of the kind that was asked about may be started now."""
    limited_by: str
    """The quota that ends first, as the provider names it."""


class InstanceState(enum.Enum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Ended but still there and possibly billed (disks): terminate removes it."""
    TERMINATED = "terminated"


@attrs.frozen(kw_only=True)
class Instance:
    """One machine that exists, or did."""

    instance_id: str
    """What the provider's listing shows, and what its worker reports in events."""
    job_id: str
    """Empty for a machine that is not ours."""
    state: InstanceState
    instance_type: str
    zone: str
    purchase: Purchase
    created_at: datetime
    client_token: str = ""
    """The token of the launch request that made it; empty when the provider cannot tell."""
    boot_disk_type: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    address: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether it runs or is about to."""
        return self.state in (InstanceState.STARTING, InstanceState.RUNNING)


@attrs.frozen(kw_only=True)
class LaunchRequest:
    """One instance to start. Launching twice with one client token starts one instance."""

    client_token: str
    """At most 32 characters of ``[a-z0-9]``."""
    job_id: str
    offer: Offer
    startup_script: str
    """The whole script, exports included."""
    labels: Mapping[str, str]
    """Besides the job's: ``run``, ``owner``, ``expires`` (Unix time)."""
    image: str | None = None
    """None: the provider's default for the architecture."""
    max_lifetime: timedelta | None = None
    """The instance must end itself after this, by the provider's own means where they exist."""
    alternatives: tuple[Offer, ...] = ()
    """Offers that will do instead, bought the same way and run by the same script, each of another type or zone: only
    for a backend with the trait `provider_selects_offer`. The instance says which it is; a refusal means them all."""


@attrs.frozen(kw_only=True)
class InstanceIdentity:
    """Who a machine is, asked on the machine itself."""

    instance_id: str
    zone: str = ""
    instance_type: str = ""


@attrs.frozen(kw_only=True)
class TerminationNotice:
    """The provider is about to take the instance away."""

    at: datetime | None
    """When (UTC), if it said so."""
    reason: str
