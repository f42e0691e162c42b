"""Machines of Amazon EC2 in one region.

Invariants, each with a test:

1. A listing is complete or raises.
2. `launch` raises nothing but what says whether an instance may have been started.
3. `terminate` ends what it can however many of the ids are unknown, and raises when one that is known may go on.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

import attrs
from botocore.exceptions import ClientError

from cloud_tasks.errors import LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks.model import Headroom, Image, Instance, InstanceType, LaunchRequest, Offer, Region
from cloud_tasks.plugin import ComputeContext
from cloud_tasks_aws.compute.catalog import Catalog
from cloud_tasks_aws.compute.failures import ids_in, translated
from cloud_tasks_aws.compute.images import Images, WrongArchitectureError
from cloud_tasks_aws.compute.large_scripts import LargeScripts
from cloud_tasks_aws.compute.launcher import Launcher
from cloud_tasks_aws.compute.launching import launch_arguments
from cloud_tasks_aws.compute.listing import filters, instance, instances_in
from cloud_tasks_aws.compute.network import Network
from cloud_tasks_aws.compute.quotas import headroom
from cloud_tasks_aws.compute.user_data import compose, packed
from cloud_tasks_aws.failures import code_of
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["Ec2Compute"]

_CONSOLE_LETTERS = 64 * 1024
_BATCH = 100
"""Instances of one `TerminateInstances`: the API takes more, but one bad id makes the whole call fail."""
_REGIONS_AT_ONCE = 8
_OF_ANOTHER_TYPE = timedelta(days=1)
_ID = re.compile(r"i-[0-9a-f]{8,17}")


class ClientMaker(Protocol):
    """Makes the client of a service.

    Args:
        region: None: the one that was opened.
        once: Whether its calls are made once, and not again when they fail in a way that may pass.
    """

    def __call__(self, service: str, region: str | None = None, *, once: bool = False) -> Any: ...


class Ec2Compute:
    """The `Compute` of one region.

    Args:
        client: Makes the client of a service, of this region or the one named.
        identity: Whose account, and which endpoint: what an answer in the cache belongs to.
    """

    def __init__(self, settings: AwsSettings, context: ComputeContext, *, client: ClientMaker, identity: str) -> None:
        self._settings = settings
        self._client = client
        self._ec2 = client("ec2")
        self._once = client("ec2", once=True)
        self._region: str = self._ec2.meta.region_name
        self._others: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._network = Network(self._ec2, settings)
        self._launcher = Launcher(
            self._ec2,
            self._once,
            self._network,
            lambda: self._other("service-quotas"),
            own_groups=not settings.security_groups,
        )
        location = settings.script_location
        self._scripts = None if location is None else LargeScripts(lambda: self._other("s3"), location)
        self._images = Images(self._ec2, lambda: self._other("ssm"))
        self._catalog = Catalog(self._ec2, region=self._region, identity=identity, cache_dir=context.cache_dir)

    def _other(self, service: str) -> Any:
        with self._lock:
            if service not in self._others:
                self._others[service] = self._client(service)
            return self._others[service]

    # -- what there is -----------------------------------------------------------------------------------------------

    def regions(self) -> Sequence[Region]:
        with translated("listing regions"):
            names = sorted(each["RegionName"] for each in self._ec2.describe_regions()["Regions"])
        with ThreadPoolExecutor(_REGIONS_AT_ONCE) as threads:
            return tuple(threads.map(self._describe_region, names))

    def _describe_region(self, name: str) -> Region:
        """A region with its zones, which only the region itself can tell."""
        ec2 = self._ec2 if name == self._region else self._client("ec2", name)
        wanted = [{"Name": "zone-type", "Values": ["availability-zone"]}]
        with translated(f"listing the zones of {name}"):
            zones = ec2.describe_availability_zones(Filters=wanted)["AvailabilityZones"]
        return Region(name=name, zones=tuple(sorted(each["ZoneName"] for each in zones)))

    def images(self) -> Sequence[Image]:
        return self._images.list()

    def instance_types(self) -> Sequence[InstanceType]:
        known = self._catalog.instance_types()
        if not self._settings.subnets:
            return known
        usable = self._network.zones()
        return tuple(attrs.evolve(each, zones=tuple(z for z in each.zones if z in usable)) for each in known)

    def headroom(self, offer: Offer) -> Headroom | None:
        return headroom(self._ec2, self._other("service-quotas"), offer, self._catalog.instance_types())

    # -- launching ---------------------------------------------------------------------------------------------------

    def launch(self, request: LaunchRequest) -> Instance:
        with _wrong_architecture_refused():
            image = self._images.resolve(request.image, request.offer.instance_type.architecture)
        user_data = self._user_data(request)
        interface = self._network.interface(request.offer.zone)
        arguments = launch_arguments(request, self._settings, user_data=user_data, image=image, interface=interface)
        with translated(f"launching {request.offer.instance_type.name}"):
            return instance(self._launcher.start(request, arguments))

    def _user_data(self, request: LaunchRequest) -> bytes:
        script = compose(
            request.startup_script,
            region=self._region,
            max_lifetime=request.max_lifetime,
            is_chosen=bool(request.alternatives),
        )
        return packed(script, elsewhere=None if self._scripts is None else self._scripts.starter)

    # -- what runs ---------------------------------------------------------------------------------------------------

    def instances(
        self, job_id: str | None, *, include_terminated: bool = False, foreign: bool = False
    ) -> Sequence[Instance]:
        wanted = filters(job_id, include_terminated=include_terminated, foreign=foreign)
        with translated("listing instances"):
            pages = self._ec2.get_paginator("describe_instances").paginate(
                Filters=wanted, PaginationConfig={"PageSize": 1000}
            )
            return tuple(found for page in pages for found in instances_in(page))

    def terminate(self, instance_ids: Sequence[str]) -> None:
        # What is no id of EC2's is nothing of ours, and would make the call fail for the others.
        known = [each for each in dict.fromkeys(instance_ids) if _ID.fullmatch(each)]
        problems: list[ProviderError] = []
        for start in range(0, len(known), _BATCH):
            try:
                with translated("terminating instances"):
                    self._terminate(known[start : start + _BATCH])
            except ProviderError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def _terminate(self, ids: Sequence[str]) -> None:
        """End these. One unknown id makes EC2 end none, so those it names are left out and the rest tried again."""
        left = list(ids)
        while left:
            try:
                self._ec2.terminate_instances(InstanceIds=left)
                return
            except ClientError as error:
                if not code_of(error).startswith("InvalidInstanceID"):
                    raise
                named = ids_in(error) & set(left)
                if named:
                    left = [each for each in left if each not in named]
                elif len(left) == 1:
                    return
                else:
                    for each in left:
                        self._terminate([each])
                    return

    def console_log(self, instance_id: str) -> str:
        if not _ID.fullmatch(instance_id):
            return ""
        try:
            with translated("reading the console"):
                return self._console(instance_id)[-_CONSOLE_LETTERS:]
        except NotFoundError:
            return ""

    def _console(self, instance_id: str) -> str:
        try:
            answer = self._ec2.get_console_output(InstanceId=instance_id, Latest=True)
        except ClientError as error:
            # The latest output is had of Nitro types only; of others, what was kept at the boot.
            if code_of(error) not in ("UnsupportedOperation", "InvalidParameterValue", "InvalidParameterCombination"):
                raise
            answer = self._ec2.get_console_output(InstanceId=instance_id)
        return str(answer.get("Output") or "")

    def close(self) -> None:
        if self._scripts is not None:
            self._scripts.close()
        for each in (self._ec2, self._once, *self._others.values()):
            each.close()


@contextmanager
def _wrong_architecture_refused() -> Iterator[None]:
    """Turn an image of another architecture into a refusal of the instance type: another type may do."""
    try:
        yield
    except WrongArchitectureError as error:
        scope, away = RefusalScope.INSTANCE_TYPE, _OF_ANOTHER_TYPE
        raise LaunchRefusedError(
            error.message, scope=scope, retry_after=away, reason="WrongArchitectureError", hint=error.hint
        ) from error
