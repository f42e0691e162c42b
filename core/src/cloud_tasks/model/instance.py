"""Instances: their types, offers, launch requests and states."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs

from cloud_tasks.deprecation import Renamed, deprecated_fields
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
    "ProvisioningModel",
    "Region",
    "TerminationNotice",
    "Unpriced",
]


class Architecture(enum.Enum):
    """The CPU architecture of an instance type or image.

    Attributes:
        X86_64: 64-bit Intel or AMD.
        ARM64: 64-bit ARM.
    """

    X86_64 = "x86_64"
    ARM64 = "arm64"


class ProvisioningModel(enum.Enum):
    """The provisioning model of an instance.

    Attributes:
        ON_DEMAND: Runs until it is terminated, at the regular price.
        SPOT: Cheaper; the provider may reclaim it at short notice.
    """

    ON_DEMAND = "on-demand"
    SPOT = "spot"


@attrs.frozen(kw_only=True)
class Region:
    """A region of a provider."""

    name: str
    """As the provider's API names it."""
    zones: tuple[str, ...]
    """Names of its zones; empty for a provider without zones."""
    description: str = ""
    """Location or title, for lists."""


@attrs.frozen(kw_only=True)
class Image:
    """A boot image."""

    name: str
    """Value of ``image:`` in the configuration."""
    uri: str
    """Identifier that the provider's API takes."""
    architecture: Architecture
    """Architecture of the instance types that can boot it."""
    family: str = ""
    """Series of images of which it is one, e.g. ``ubuntu-2404-lts``; empty without one."""
    owner: str = ""
    """Publisher; ``self`` for an image of the account."""
    description: str = ""
    """Title, for lists."""
    created_at: datetime | None = None
    """Time of its creation, UTC; None if unknown."""
    min_disk_gb: float | None = None
    """Size of its disk in GB: the minimum size of a boot disk; None if unknown."""


@attrs.frozen(kw_only=True)
class InstanceType:
    """An instance type of a provider, in one region."""

    name: str
    """As the provider's API names it."""
    vcpus: int
    """Number of vCPUs, at least 1."""
    memory_gb: float
    """Memory in GB."""
    architecture: Architecture
    """Its CPU architecture."""
    zones: tuple[str, ...]
    """Zones of the region that offer it; a provider without zones returns one name."""
    local_ssd_gb: float = 0.0
    """Total size of its local SSDs in GB; 0 without any."""
    boot_disk_types: tuple[str, ...] = ()
    """Boot disk types that it supports, the cheapest first if known; empty for a provider without boot disks."""
    cpu_family: str = ""
    """For example ``Intel Cascade Lake``; empty if unknown."""
    cpu_rank: int = 0
    """Performance rank of the family, 1 for the slowest; 0 if unknown."""
    gpu_count: int = 0
    """Number of GPUs."""
    gpu_type: str = ""
    """Name of the GPU; empty without one."""
    supports_spot: bool = True
    """Whether it is offered as spot."""
    sustained_cpu: float = attrs.field(default=1.0, validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    """Share of each vCPU that it can use all the time: 1 for dedicated cores, less for a burstable or shared-core
    type. Such a type is selected only if ``instance_types`` names it, and has fewer task slots."""
    description: str = ""
    """Title, for lists."""
    max_lifetime: timedelta | None = None
    """Longest lifetime that the provider allows, such as the time limit of a partition; none requests a longer one.
    None: no limit."""


@attrs.frozen(kw_only=True)
class BootDisk:
    """The boot disk of an instance."""

    disk_type: str
    """One of `InstanceType.boot_disk_types`; empty for a provider without boot disks (``local``)."""
    size_gb: float
    """Size in GB."""
    iops: int | None = None
    """Provisioned I/O operations per second; None for the default of the disk type."""
    throughput_mb_s: int | None = None
    """Provisioned throughput in MB/s; None for the default of the disk type."""


@deprecated_fields(purchase=Renamed("provisioning_model"))
@attrs.frozen(kw_only=True)
class OfferRequest:
    """A request for the price of an instance."""

    instance_type: InstanceType
    """The type to be priced."""
    zone: str
    """One of its zones."""
    provisioning_model: ProvisioningModel
    """The provisioning model."""
    boot_disk: BootDisk
    """The boot disk, included in the price."""


@attrs.frozen(kw_only=True)
class PriceBreakdown:
    """The price of an instance by component, in US dollars per hour."""

    cpu: Money = Money.zero()
    """vCPUs; or the whole instance if the provider does not divide its price."""
    memory: Money = Money.zero()
    """Memory."""
    local_ssd: Money = Money.zero()
    """Local SSDs."""
    gpu: Money = Money.zero()
    """GPUs."""
    boot_disk: Money = Money.zero()
    """Size of the boot disk."""
    boot_disk_iops: Money = Money.zero()
    """Provisioned IOPS of the boot disk."""
    boot_disk_throughput: Money = Money.zero()
    """Provisioned throughput of the boot disk."""
    address: Money = Money.zero()
    """Public IP address, if the settings assign one."""
    surplus_credits: Money = Money.zero()
    """Maximum charge for CPU use above the sustained share of a burstable type, with all vCPUs busy."""

    @property
    def machine(self) -> Money:
        """Price per hour without boot disk, address and credits: what a maximum price of a spot instance limits."""
        return self.cpu + self.memory + self.local_ssd + self.gpu

    def parts(self) -> Mapping[str, Money]:
        """Return the components that cost something, by name."""
        return {name: amount for name in attrs.fields_dict(type(self)) if (amount := getattr(self, name))}

    @property
    def total(self) -> Money:
        """Price of the instance per hour: the sum of all components."""
        return (
            self.machine
            + self.boot_disk
            + self.boot_disk_iops
            + self.boot_disk_throughput
            + self.address
            + self.surplus_credits
        )


@deprecated_fields(purchase=Renamed("provisioning_model"))
@attrs.frozen(kw_only=True)
class Offer:
    """An instance type with zone, provisioning model, boot disk and price."""

    instance_type: InstanceType
    """The type that is offered."""
    zone: str
    """The zone in which it is offered."""
    provisioning_model: ProvisioningModel
    """The provisioning model."""
    boot_disk: BootDisk
    """The boot disk, included in the price."""
    price: PriceBreakdown
    """Price per hour, by component."""
    priced_at: datetime
    """Time at which the provider returned the price, UTC; its age is shown with the price."""

    @property
    def price_per_hour(self) -> Money:
        """Price per hour: all components of the price."""
        return self.price.total


@attrs.frozen(kw_only=True)
class Unpriced:
    """The answer to a request that has no price; other requests are not affected."""

    request: OfferRequest
    """The request."""
    reason: str
    """Why it has no price, in one line."""


@attrs.frozen(kw_only=True)
class Headroom:
    """The unused part of the account's quotas."""

    instances: int
    """Number of instances of the offer that can still be launched."""
    limited_by: str
    """Name of the quota that is exhausted first."""


class InstanceState(enum.Enum):
    """The state of an instance, as the provider lists it.

    Attributes:
        PENDING: Accepted; the provider decides when it starts. Costs nothing yet, sends no heartbeat, keeps its place;
            counts towards the limits. A started instance is never pending again.
        STARTING: Booting; billed.
        RUNNING: Booted, or booting for a provider that does not distinguish; billed.
        STOPPING: Shutting down.
        STOPPED: Shut down but not deleted, possibly billed (disks): ``terminate`` deletes it.
        TERMINATED: Deleted, or canceled while pending; listed for a while by some providers.
    """

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"


@deprecated_fields(purchase=Renamed("provisioning_model"))
@attrs.frozen(kw_only=True)
class Instance:
    """An instance as launched or listed."""

    instance_id: str
    """The provider's id; the same in listings and in the events of its worker."""
    job_id: str
    """Job that launched it; empty for an unmanaged instance."""
    state: InstanceState
    """Its state in this listing."""
    instance_type: str
    """Name of its type."""
    zone: str
    """Name of its zone."""
    provisioning_model: ProvisioningModel
    """Its provisioning model."""
    created_at: datetime
    """Time at which the provider created it by its own clock, UTC; for lists."""
    client_token: str = ""
    """Token of its launch request; required for managed instances: without it, an instance whose launch was not
    answered cannot be adopted and is terminated. Empty for unmanaged instances."""
    boot_disk_type: str = ""
    """Type of its boot disk; empty if unknown."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    """Labels; required for managed instances, those of the launch request at least."""
    address: str = ""
    """IP address, for lists; empty if unknown."""
    started_at: datetime | None = None
    """Time since which it is billed, by the clock of `created_at`, UTC; None if unknown or pending."""
    ended_at: datetime | None = None
    """Time until which it was billed, by the clock of `created_at`, UTC; None if unknown or not terminated. A
    terminated instance with this time and without `started_at` never started."""
    reason: str = ""
    """Why it is pending, or why it ended, as the provider names it: ``Resources``, ``PartitionTimeLimit``."""

    @property
    def is_alive(self) -> bool:
        """Whether it is pending, starting or running."""
        return self.state in (InstanceState.PENDING, InstanceState.STARTING, InstanceState.RUNNING)


@attrs.frozen(kw_only=True)
class LaunchRequest:
    """A request for one instance. Idempotent: two launches with one client token start one instance."""

    client_token: str
    """Identifies the request; at most 32 characters of ``[a-z0-9]``."""
    job_id: str
    """Job that launches it; part of its labels."""
    offer: Offer
    """The offer to launch."""
    startup_script: str
    """The whole script that the instance runs at boot, exports included."""
    labels: Mapping[str, str]
    """Labels besides that of the job: ``run``, ``owner``, ``expires`` (Unix seconds)."""
    image: str | None = None
    """Name of the boot image; None for the provider's default for the architecture."""
    max_lifetime: timedelta | None = None
    """Time after its start at which the instance must terminate itself, by the provider's means if there are any; None
    for never."""
    startup_timeout: timedelta | None = None
    """Time limit for the start of a worker, after which the instance terminates itself; None for no limit."""
    alternatives: tuple[Offer, ...] = ()
    """Other offers that the provider may select, with the same provisioning model and script and another type or zone;
    only for a backend with the trait `provider_selects_offer`. A refusal applies to all of them."""
    max_price_per_hour: Money | None = None
    """Maximum price per hour of a spot instance without boot disk, address and credits (`PriceBreakdown.machine`), for
    a provider that takes one: it reclaims the instance instead of charging more. None: no limit."""
    secrets: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Secret settings of the workers, by environment variable; only for a backend with the trait `delivers_secrets`.
    They are not in the script, and must not be in anything that others can read."""


@attrs.frozen(kw_only=True)
class InstanceIdentity:
    """The identity of an instance, as found on the instance itself."""

    instance_id: str
    """The same as in the provider's listing."""
    zone: str = ""
    """Name of its zone; empty if unknown."""
    instance_type: str = ""
    """Name of its type; empty if unknown."""


@attrs.frozen(kw_only=True)
class TerminationNotice:
    """A notice that the provider will reclaim the instance."""

    at: datetime | None
    """Time of the termination, UTC; None if unknown."""
    reason: str
    """Cause in one line, as the provider names it."""
