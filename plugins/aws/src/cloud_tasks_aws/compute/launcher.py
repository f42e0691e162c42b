"""Starts one instance of a launch request, however often the call has to be made.

Invariants, each with a test:

1. A client token starts at most one instance, whoever repeats the call and whatever changed meanwhile.
2. What may have been started is never told as refused.
3. A quota that one type is too large for, or that counts few types only, is told of that type: others are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from botocore.exceptions import ClientError

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import LaunchRequest, Offer
from cloud_tasks_aws.compute.failures import QUOTAS, passing, refused, unknown_yet
from cloud_tasks_aws.compute.fleets import Place, launch_one_of, places_for
from cloud_tasks_aws.compute.listing import TOKEN_TAG
from cloud_tasks_aws.compute.network import Network
from cloud_tasks_aws.compute.patience import patiently
from cloud_tasks_aws.compute.quotas import counts_standard_families, limit_of
from cloud_tasks_aws.failures import code_of

__all__ = ["Launcher"]

_TOO_LARGE = timedelta(days=1)


class Launcher:
    """Thread-safe.

    Args:
        ec2: A client that makes calls again when they fail in passing.
        once: One that makes a call once: missing capacity is answered as an error of EC2's own side.
        quotas: Makes the client of Service Quotas, when a quota is in the way.
        own_groups: Whether the security groups are ours, and may have been made a moment ago.
    """

    def __init__(self, ec2: Any, once: Any, network: Network, quotas: Callable[[], Any], *, own_groups: bool) -> None:
        self._ec2 = ec2
        self._once = once
        self._network = network
        self._quotas = quotas
        self._own_groups = own_groups

    def start(self, request: LaunchRequest, arguments: Mapping[str, Any]) -> Any:
        """EC2's description of the instance.

        Args:
            arguments: Those of `RunInstances` for the request's own offer.

        Raises:
            LaunchRefusedError: EC2 will not start it now.
            ProviderError: It is not known whether it was started; the same request will tell.
        """
        places = places_for(request, self._network.subnets_beside(request.offer.zone))
        try:
            if len(places) > 1:
                return self._described(self._one_of(request, arguments, places))
            return patiently(lambda: self._once.run_instances(**arguments)["Instances"][0], again=self._may_pass)
        except LaunchRefusedError as refusal:
            raise self._narrowed(request.offer, refusal, alone=False) from refusal.__cause__
        except ClientError as error:
            if code_of(error) == "IdempotentParameterMismatch":
                return self._of_before(request, error)
            if code_of(error).endswith(".NotFound"):
                # Somebody may have removed the group or the subnet that we remember.
                self._network.forget()
            meant = refused(request.offer, error)
            raise self._narrowed(request.offer, meant, alone=len(places) == 1) from error

    def _may_pass(self, error: BaseException) -> bool:
        return passing(error) or unknown_yet(error, own_groups=self._own_groups)

    def _one_of(self, request: LaunchRequest, arguments: Mapping[str, Any], places: tuple[Place, ...]) -> str:
        return launch_one_of(self._once, request, arguments, places, own_groups=self._own_groups)

    def _described(self, instance_id: str) -> Any:
        """A new instance; the listing may take a moment to know it."""

        def look() -> Any:
            return self._ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

        try:
            return patiently(look, again=lambda error: passing(error) or _is_unknown(error))
        except ClientError as error:
            # It runs: to call this a refusal would be to forget it.
            message = f"{instance_id} was started and cannot be described: {code_of(error)}"
            raise ProviderError(message, transient=True) from error

    def _of_before(self, request: LaunchRequest, error: ClientError) -> Any:
        """What the token started before, with, say, an older default image."""
        wanted = [{"Name": f"tag:{TOKEN_TAG}", "Values": [request.client_token]}]
        for page in self._ec2.get_paginator("describe_instances").paginate(Filters=wanted):
            for reservation in page["Reservations"]:
                return reservation["Instances"][0]
        message = "this launch was made before with other arguments, and its instance is not listed yet"
        raise ProviderError(message, transient=True) from error

    def _narrowed(self, offer: Offer, refusal: ProviderError, *, alone: bool) -> ProviderError:
        """A refusal by a quota, as far as it reaches; any other as it is.

        Args:
            alone: Whether it speaks of no other offer.
        """
        if not isinstance(refusal, LaunchRefusedError) or refusal.reason not in QUOTAS:
            return refusal
        limit = None
        with suppress(ProviderError):
            limit = limit_of(self._quotas(), offer)
        if limit is not None and limit < offer.instance_type.vcpus:
            message = f"{refusal.message}; it has {offer.instance_type.vcpus} vCPUs, the quota is {limit:g}"
            return _of_the_type(refusal, message, _TOO_LARGE if alone else refusal.retry_after)
        if not counts_standard_families(offer.instance_type.name):
            return _of_the_type(refusal, refusal.message, refusal.retry_after)
        return refusal


def _of_the_type(refusal: LaunchRefusedError, message: str, away: timedelta) -> LaunchRefusedError:
    scope = RefusalScope.INSTANCE_TYPE
    return LaunchRefusedError(message, scope=scope, retry_after=away, reason=refusal.reason, hint=refusal.hint)


def _is_unknown(error: BaseException) -> bool:
    return code_of(error) == "InvalidInstanceID.NotFound"
