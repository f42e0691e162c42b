"""EC2 instances in one region.

Invariants, each with a test:

1. A listing is complete or raises.
2. `launch` raises only errors that state whether an instance may have been started.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

import attrs
import structlog
from botocore.exceptions import ClientError

from cloud_tasks.errors import (
    CredentialsError,
    LaunchFailedError,
    LaunchRefusedError,
    NotFoundError,
    ProviderError,
    RefusalScope,
)
from cloud_tasks.model import Architecture, Headroom, Image, Instance, InstanceType, LaunchRequest, Offer, Region
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.plugin.kit import CONSOLE_BYTES
from cloud_tasks_aws.compute.build import launch_arguments
from cloud_tasks_aws.compute.catalog import Catalog
from cloud_tasks_aws.compute.compute_errors import preparation_error, translate_errors
from cloud_tasks_aws.compute.image_resolver import AwsImages, WrongArchitectureError
from cloud_tasks_aws.compute.large_scripts import LargeScripts
from cloud_tasks_aws.compute.launcher import Launcher
from cloud_tasks_aws.compute.listing import filters
from cloud_tasks_aws.compute.network import Network
from cloud_tasks_aws.compute.own_images import OwnImages
from cloud_tasks_aws.compute.quotas import headroom
from cloud_tasks_aws.compute.retries import retry_call
from cloud_tasks_aws.compute.startup_script import compose_script, encode_script
from cloud_tasks_aws.compute.termination import is_instance_id, terminate_instances
from cloud_tasks_aws.compute.to_model import instances_in, to_instance
from cloud_tasks_aws.errors import code_of, is_denied
from cloud_tasks_aws.session import client, identity_of
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["Ec2Compute", "open_compute"]

log = structlog.get_logger()

_MAX_CONCURRENT_REGIONS = 8
_WRONG_ARCHITECTURE_DELAY = timedelta(days=1)


class ClientFactory(Protocol):
    """Factory of boto3 clients.

    Args:
        region: Region of the client; None for the opened one.
        once: Whether calls are made once, without the SDK's retries.
    """

    def __call__(self, service: str, region: str | None = None, *, once: bool = False) -> Any: ...


class Ec2Compute:
    """`Compute` of one EC2 region.

    Args:
        client: Creates a client of a service, in this region or the given one.
        identity: Account and endpoint that cached answers belong to.
    """

    def __init__(self, settings: AwsSettings, context: ComputeContext, *, client: ClientFactory, identity: str) -> None:
        self._settings = settings
        self._client = client
        self._ec2 = client("ec2")
        self._once = client("ec2", once=True)
        self._region: str = self._ec2.meta.region_name
        self._job_id = context.job_id
        self._has_changed = False
        self._services: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._network = Network(self._ec2, settings)
        self._launcher = Launcher(
            self._ec2,
            self._once,
            self._network,
            lambda: self._service("service-quotas"),
            own_groups=not settings.security_groups,
        )
        location = settings.script_location
        self._scripts = None if location is None else LargeScripts(lambda region: client("s3", region), location)
        self._images = AwsImages(self._ec2, lambda: self._service("ssm"))
        self._own_images = OwnImages(self._ec2, settings.tags, context.job_id)
        self._catalog = Catalog(self._ec2, region=self._region, identity=identity, cache_dir=context.cache_dir)

    def _service(self, service: str) -> Any:
        with self._lock:
            if service not in self._services:
                self._services[service] = self._client(service)
            return self._services[service]

    # -- catalog -----------------------------------------------------------------------------------------------------

    def regions(self) -> Sequence[Region]:
        with translate_errors("listing regions"):
            names = sorted(each["RegionName"] for each in self._ec2.describe_regions()["Regions"])
        with ThreadPoolExecutor(_MAX_CONCURRENT_REGIONS) as threads:
            return tuple(found for found in threads.map(self._region_with_zones, names) if found is not None)

    def _region_with_zones(self, name: str) -> Region | None:
        """Return a region with its zones, which only its own endpoint lists; None if it is denied.

        Without zones if it does not answer: it may have instances, so that a listing of all regions has to try it.
        """
        ec2 = self._ec2 if name == self._region else self._client("ec2", name, once=True)
        conditions = [{"Name": "zone-type", "Values": ["availability-zone"]}]
        try:
            with translate_errors(f"listing the zones of {name}"):
                zones = retry_call(lambda: ec2.describe_availability_zones(Filters=conditions))["AvailabilityZones"]
        except ProviderError as error:
            is_excluded = is_denied(error.__cause__)
            if name == self._region or not (error.transient or is_excluded):
                raise
            if is_excluded:
                # Organizations deny regions, which are listed nevertheless.
                log.warning(f"Region {name} is left out: {error.message}")
                return None
            log.warning(f"The zones of region {name} are unknown: {error.message}")
            return Region(name=name, zones=())
        return Region(name=name, zones=tuple(sorted(each["ZoneName"] for each in zones)))

    def images(self) -> Sequence[Image]:
        return self._images.list()

    def find_image(self, name: str | None, architecture: Architecture) -> Image | None:
        image = self._images.resolve(name, architecture)
        return Image(
            name=name or image.image_id,
            uri=image.image_id,
            architecture=architecture,
            min_disk_gb=image.size_gb or None,
        )

    def find_own_image(self, name: str) -> str | None:
        return self._own_images.find(name)

    def make_image(self, instance_id: str, name: str) -> str:
        return self._own_images.make(instance_id, name)

    def instance_types(self) -> Sequence[InstanceType]:
        known = self._catalog.instance_types()
        if not self._settings.subnets:
            return known
        usable = self._network.zones()
        return tuple(attrs.evolve(each, zones=tuple(z for z in each.zones if z in usable)) for each in known)

    def headroom(self, offer: Offer) -> Headroom | None:
        return headroom(self._ec2, self._service("service-quotas"), offer, self._catalog.instance_types())

    # -- launching ---------------------------------------------------------------------------------------------------

    def launch(self, request: LaunchRequest) -> Instance:
        self._has_changed = True
        with _nothing_started():
            image = self._images.resolve(request.image, request.offer.instance_type.architecture)
            user_data = self._user_data(request)
            interface = self._network.interface(request.offer.zone)
        arguments = launch_arguments(request, self._settings, user_data=user_data, image=image, interface=interface)
        with translate_errors(f"launching {request.offer.instance_type.name}"):
            return to_instance(self._launcher.start(request, arguments))

    def _user_data(self, request: LaunchRequest) -> bytes:
        script = compose_script(
            request.startup_script,
            region=self._region,
            max_lifetime=request.max_lifetime,
            startup_timeout=request.startup_timeout,
            is_chosen=bool(request.alternatives),
        )
        return encode_script(script, store=None if self._scripts is None else self._scripts.loader)

    # -- listing and termination -------------------------------------------------------------------------------------

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        conditions = filters(job_id, include_terminated=include_terminated, foreign=foreign)
        with translate_errors("listing instances"):
            pages = self._ec2.get_paginator("describe_instances").paginate(
                Filters=conditions, PaginationConfig={"PageSize": 1000}
            )
            return tuple(found for page in pages for found in instances_in(page))

    def terminate(self, instance_ids: Sequence[str]) -> None:
        self._has_changed = True
        terminate_instances(self._ec2, instance_ids)

    def console_log(self, instance_id: str) -> str:
        if not is_instance_id(instance_id):
            return ""
        try:
            with translate_errors("reading the console log"):
                return self._console(instance_id)[-CONSOLE_BYTES:]
        except NotFoundError:
            return ""

    def _console(self, instance_id: str) -> str:
        try:
            answer = self._ec2.get_console_output(InstanceId=instance_id, Latest=True)
        except ClientError as error:
            # Only Nitro types return the latest output; the others return the output of the boot.
            if code_of(error) not in ("UnsupportedOperation", "InvalidParameterValue", "InvalidParameterCombination"):
                raise
            answer = self._ec2.get_console_output(InstanceId=instance_id)
        return str(answer.get("Output") or "")

    def close(self) -> None:
        self._launcher.close(self._job_id if self._has_changed else None)
        if self._scripts is not None:
            self._scripts.close()
        for each in (self._ec2, self._once, *self._services.values()):
            each.close()


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Translate the permanent errors of a launch's preparation into a refusal or failure of the launch."""
    try:
        yield
    except WrongArchitectureError as error:
        # Another type may match the image.
        scope, delay = RefusalScope.INSTANCE_TYPE, _WRONG_ARCHITECTURE_DELAY
        raise LaunchRefusedError(
            error.message, scope=scope, retry_after=delay, reason="WrongArchitecture", hint=error.hint
        ) from error
    except ProviderError as error:
        if error.transient or isinstance(error, (CredentialsError, LaunchFailedError)):
            raise
        raise preparation_error(error) from error


_CONNECTIONS = 20


@contextmanager
def open_compute(settings: AwsSettings, context: ComputeContext) -> Iterator[Compute]:
    """Open EC2 in the context's region, or in the SDK's configured region."""

    def create_client(service: str, region: str | None = None, *, once: bool = False) -> Any:
        if once:
            return client(settings, service, region or context.region, connections=_CONNECTIONS, attempts=1)
        return client(settings, service, region or context.region, connections=_CONNECTIONS)

    identity = f"{settings.ec2_endpoint or settings.endpoint_url} {identity_of(settings)}"
    compute = Ec2Compute(settings, context, client=create_client, identity=identity)
    try:
        yield compute
    finally:
        compute.close()
