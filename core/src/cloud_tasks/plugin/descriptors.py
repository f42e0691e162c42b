"""Descriptors that plugins register, with the traits and contexts of each kind of backend.

A descriptor is data and functions, of which ``open`` opens the backend. A function may be given as an import string,
``module:attribute``, which is imported when it is called: so the module of the plugin imports no SDK.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.deprecation import Removed, Renamed, deprecated_fields
from cloud_tasks.model import LaunchRequest, ProvisioningModel
from cloud_tasks.plugin.account_setup import AccountSetup, SetupContext
from cloud_tasks.plugin.checks import CheckContext, Finding
from cloud_tasks.plugin.downloads import Download, DownloadContext, StagingContext
from cloud_tasks.plugin.protocols import Compute, EventSink, InstanceSide, Pricing, Queue, TaskSource
from cloud_tasks.plugin.settings import NoSettings
from cloud_tasks.plugin.targets import imported, imported_open

__all__ = [
    "Backend",
    "CommandDescriptor",
    "ComputeBackend",
    "ComputeContext",
    "ComputeTraits",
    "EventSinkBackend",
    "EventSinkContext",
    "InstanceContext",
    "LocationContext",
    "PricingBackend",
    "PricingContext",
    "QueueBackend",
    "QueueContext",
    "QueueTraits",
    "Reach",
    "TaskSourceBackend",
    "TaskSourceContext",
]


class Reach(enum.Enum):
    """Which machines a queue can be used from, and where instances are: each member includes the former ones.

    Attributes:
        MACHINE: The controller's machine.
        SHARED_FILES: Machines that share files with the controller's, such as the nodes of a cluster.
        NETWORK: Any machine that the network reaches.
    """

    MACHINE = "machine"
    SHARED_FILES = "shared files"
    NETWORK = "network"

    def includes(self, other: Reach) -> bool:
        """Return whether everything in ``other`` is in this one."""
        order = list(Reach)
        return order.index(other) <= order.index(self)


@deprecated_fields(
    delivery_counts=Renamed("reports_delivery_count"),
    exact_depth=Removed("use `Depth.exact` of each answer", default=False),
)
@attrs.frozen(kw_only=True, slots=False)
class QueueTraits:
    """Capabilities of a queue, used by the runtime's checks and by the contract."""

    max_lease: timedelta
    """Maximum lease of one `Queue.extend`."""
    max_message_bytes: int
    """Maximum size of a message body."""
    receive_batch: int
    """Maximum number of messages of one `Queue.receive`."""
    send_batch: int
    """Number of messages that the backend sends in one call of its service."""
    delay: timedelta = timedelta(0)
    """Maximum delay of `Queue.send` and `Queue.release`; zero if delays are ignored."""
    reports_delivery_count: bool = False
    """Whether `Delivery.delivery_count` is set."""
    total_lease: timedelta | None = None
    """Maximum total lease of a message over all extensions; None for no limit. A longer ``max_runtime`` causes a
    warning."""
    exactly_once: bool = False
    """Whether exactly-once delivery is supported on request; else ``exactly_once_queue`` is refused."""
    bills_requests: bool = False
    """Whether requests cost money: workers then make fewer, larger ones (reports up to a second later, a second of
    tasks in advance), and extend the leases of tasks that have run for long by up to ten minutes."""
    reach: Reach = Reach.NETWORK
    """Which machines it can be used from; a compute backend with instances elsewhere is refused."""


@deprecated_fields(
    ends_itself=Renamed("enforces_max_lifetime"),
    chooses=Renamed("provider_selects_offer"),
    max_script_bytes=Removed("`ComputeBackend.check_launch` refuses a script that is too long", default=16 * 1024),
)
@attrs.frozen(kw_only=True, slots=False)
class ComputeTraits:
    """Capabilities of a compute backend."""

    spot: bool = True
    """Whether spot instances are supported; else ``use_spot`` is refused."""
    enforces_max_lifetime: bool = False
    """Whether an instance terminates itself at `LaunchRequest.max_lifetime`, by the provider or by `boot_script`.
    Otherwise a running controller terminates it, after a warning at the start."""
    max_parallel_launches: int = 10
    """Maximum number of parallel launches; ``max_parallel_instance_creations`` may lower it."""
    lists_all_regions: bool = False
    """Whether `Compute.instances` shows the instances of all regions; else only those of the opened one, and commands
    that look for leftover instances open each region in turn."""
    shares_files: bool = False
    """Whether instances are processes on the controller's machine."""
    max_pending: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))
    """Maximum number of instances that are pending at a time (`InstanceState.PENDING`); None: no limit."""
    location: Reach | None = None
    """Where instances are, so that a queue that they cannot reach is refused; None: on the controller's machine with
    ``shares_files``, else anywhere. A backend whose instances share files with the controller, on its machine or
    another, sets ``CLOUD_TASKS_SUBMIT_DIR`` to `ComputeContext.submit_dir`, in which the commands of tasks start."""
    listing_lag: timedelta = timedelta(0)
    """Maximum time for which a launched instance may be missing from the listing."""
    watch_interval: timedelta | None = None
    """Time between two checks for ended instances, where a listing is fast and free; None: only at scaling checks."""
    provider_selects_offer: bool = False
    """Whether the provider selects among the request's offer and its alternatives. Such a backend sets
    ``CLOUD_TASKS_STARTED`` to ``<instance type> <zone>`` of the instance before its script runs."""
    delivers_secrets: bool = False
    """Whether `launch` delivers `LaunchRequest.secrets` to the environment of the script by a private way. Otherwise
    they are shipped with a program, or the user's startup script fetches them from a secret store."""

    @property
    def located(self) -> Reach:
        """Where instances are."""
        return self.location or (Reach.MACHINE if self.shares_files else Reach.NETWORK)


@attrs.frozen(kw_only=True)
class QueueContext:
    """Parameters of opening a queue."""

    job_id: str
    """The job."""
    name: str
    """Name of the queue, unique to the job and its kind."""
    lease: timedelta
    """Initial lease of a received message, within the traits."""
    exactly_once: bool = False
    """Whether exactly-once delivery is requested."""
    region: str | None = None
    """The region, for providers that have regions; None: the provider's default."""
    for_events: bool = False
    """Whether the queue carries events, not tasks."""


@attrs.frozen(kw_only=True)
class ComputeContext:
    """Parameters of opening a compute backend."""

    job_id: str
    """The job; empty for commands without a job."""
    region: str | None = None
    """The region; None: the provider's default."""
    zone: str | None = None
    """The zone, if configured."""
    submit_dir: Path = attrs.field(factory=Path.cwd)
    """Base of relative paths of the configuration."""
    cache_dir: Path | None = None
    """Folder for files that outlive the command; None: no files."""
    secret_variables: tuple[str, ...] = ()
    """Environment variables of settings that are secrets. A provider whose instances inherit the controller's
    environment leaves them out, and every variable whose name begins with ``CLOUD_TASKS_`` or ``RMS_CLOUD_TASKS_``."""


@attrs.frozen(kw_only=True)
class LocationContext:
    """Parameters of locating a backend."""

    region: str | None = None
    """The region, if configured."""
    zone: str | None = None
    """The zone, if configured."""


@attrs.frozen(kw_only=True)
class InstanceContext:
    """Parameters of opening the instance side, where only the worker's environment is known."""

    job_id: str
    """The job of the worker."""


@attrs.frozen(kw_only=True)
class PricingContext:
    """Parameters of opening a pricing backend."""

    region: str | None = None
    """The region; None: the provider's default."""
    zone: str | None = None
    """The zone, if configured."""
    cache_dir: Path | None = None
    """Folder for prices that outlive the command; None: no files."""


@attrs.frozen(kw_only=True)
class EventSinkContext:
    """Parameters of opening an event sink."""

    job_id: str
    """The job."""
    output_file: Path | None = None
    """File of ``--output-file`` or ``--event-log-file``, for sinks that write a file."""
    base_dir: Path = Path()
    """Folder for files that a sink names itself: that of the configuration file, or the current one."""


@attrs.frozen(kw_only=True)
class TaskSourceContext:
    """Parameters of opening a task source."""

    location: str
    """Text after the source's name: a path, a URL, ``module:function``."""
    base_dir: Path = attrs.field(factory=Path.cwd)
    """Base of relative paths: the folder of the configuration file that names the source, or the current one."""


@attrs.frozen(kw_only=True)
class Backend:
    """Base of the descriptors of backends."""

    name: str
    """Name in the configuration, e.g. ``gcp``: ``^[a-z][-a-z0-9]*$``."""
    summary: str
    """One line for ``cloud-tasks plugins``."""
    settings: type[Any] = NoSettings
    """attrs class of the configuration section; backends of one name may share a class or split the section."""


@attrs.frozen(kw_only=True)
class QueueBackend(Backend):
    """Descriptor of a queue."""

    traits: QueueTraits
    """Capabilities and limits."""
    open: Callable[[Any, QueueContext], AbstractContextManager[Queue]] = attrs.field(converter=imported_open)
    """Open a queue, on the controller and in each worker: an import string, or a function that returns a context
    manager."""
    check: Callable[[Any, CheckContext], Iterable[Finding]] | None = attrs.field(default=None, converter=imported)
    """Check access, permissions and services for ``cloud-tasks doctor``."""
    locate: Callable[[Any, LocationContext], Mapping[str, str]] | None = attrs.field(default=None, converter=imported)
    """Return where its queues are, as far as the settings marked ``locates`` do not say it: values such as ``region``
    and ``account``, by name. A job is resumed only where it is. Import SDKs inside; omit what cannot be found out."""
    credentials_end: Callable[[Any], datetime | None] | None = attrs.field(default=None, converter=imported)
    """Return when the controller's credentials end, without a call to the provider; None if that is unknown, or they
    are renewed without a person. A run announces it."""


@attrs.frozen(kw_only=True)
class ComputeBackend(Backend):
    """Descriptor of a compute backend."""

    traits: ComputeTraits
    """Capabilities and limits."""
    open: Callable[[Any, ComputeContext], AbstractContextManager[Compute]] = attrs.field(converter=imported_open)
    """Open the controller's side, as `QueueBackend.open`."""
    open_instance: Callable[[Any, InstanceContext], AbstractContextManager[InstanceSide]] = attrs.field(
        converter=imported_open
    )
    """Open the instance side, in the worker; must not import the controller's SDK."""
    check: Callable[[Any, CheckContext], Iterable[Finding]] | None = attrs.field(default=None, converter=imported)
    """Check access, permissions and services for ``cloud-tasks doctor``."""
    check_launch: Callable[[Any, LaunchRequest], None] | None = attrs.field(default=None, converter=imported)
    """Check script, image and disk of a request without a call to the provider, before anything is created. Raises
    `InputError`. Import SDKs inside."""
    locate: Callable[[Any, LocationContext], Mapping[str, str]] | None = attrs.field(default=None, converter=imported)
    """Return where its instances are, as `QueueBackend.locate` does for queues."""
    credentials_end: Callable[[Any], datetime | None] | None = attrs.field(default=None, converter=imported)
    """Return when the controller's credentials end, as `QueueBackend.credentials_end` does."""
    policies: Callable[[Any, CheckContext], Mapping[str, str]] | None = attrs.field(default=None, converter=imported)
    """Return the minimum permissions of controller and worker, as texts by document name."""
    download: Callable[[Any, DownloadContext], Download] | None = attrs.field(default=None, converter=imported)
    """Return how an instance downloads a file of the staging (``run.staging``), without a long call to the provider.
    Called at each launch, for each file. Raises `InputError` for a URL of another scheme, or one that names no file.
    Import SDKs inside. None: its instances have no access to a staging."""
    staging_schemes: tuple[str, ...] = ()
    """Schemes of the URLs that ``download`` accepts: ``("s3",)``."""
    staging_options: Callable[[Any, StagingContext], Mapping[str, Any]] | None = attrs.field(
        default=None, converter=imported
    )
    """Return the arguments of fsspec's file system for the controller's uploads to the staging, such as the credentials
    of the settings. None: what the file system finds itself."""
    setup: Callable[[Any, SetupContext], AccountSetup] | None = attrs.field(default=None, converter=imported)
    """Return what ``cloud-tasks setup`` makes in the account of the settings; the calls of the items come later. Raises
    `InputError` if a setting that names the account is missing. Import SDKs inside. None: nothing to set up."""


@attrs.frozen(kw_only=True)
class PricingBackend(Backend):
    """Descriptor of a pricing backend."""

    open: Callable[[Any, PricingContext], AbstractContextManager[Pricing]] = attrs.field(converter=imported_open)
    """Open the prices of a region, as `QueueBackend.open`."""
    max_age: Callable[[Any, ProvisioningModel], timedelta] | None = attrs.field(default=None, converter=imported)
    """Return the age at which prices of a provisioning model are fetched again. The controller requests them at a
    quarter of it while a job runs, and selects by the answers. None: prices never change during a job."""
    check: Callable[[Any, CheckContext], Iterable[Finding]] | None = attrs.field(default=None, converter=imported)
    """Check that prices are available, for ``cloud-tasks doctor``."""


@deprecated_fields(keeps_once=Renamed("idempotent"))
@attrs.frozen(kw_only=True)
class EventSinkBackend(Backend):
    """Descriptor of an event sink."""

    open: Callable[[Any, EventSinkContext], AbstractContextManager[EventSink]] = attrs.field(converter=imported_open)
    """Open the sink, as `QueueBackend.open`."""
    idempotent: bool = False
    """Whether an event that is written again, even after reopening the sink, is kept once. A resumed run then writes
    the job's latest events again, since a killed controller may not have written the last ones."""


@attrs.frozen(kw_only=True)
class TaskSourceBackend(Backend):
    """Descriptor of a task source."""

    open: Callable[[Any, TaskSourceContext], AbstractContextManager[TaskSource]] = attrs.field(converter=imported_open)
    """Open a source of tasks, as `QueueBackend.open`."""
    suffixes: tuple[str, ...] = ()
    """Suffixes of files that this source reads."""


@attrs.frozen(kw_only=True)
class CommandDescriptor:
    """Descriptor of a subcommand, which is imported when it is called."""

    name: str
    """Kebab-case."""
    summary: str
    """One line for ``--help``."""
    target: str
    """``module:attribute`` of a `click.Command`."""
