"""Launch of one instance, with retries.

Invariants, each with a test:

1. A client token starts at most one instance, however often and by whichever process the call is repeated.
2. A launch that may have started an instance is never reported as refused.
3. A quota that one type exceeds alone, or that counts few types only, refuses that type; others are tried.
4. A refusal with an unknown code blames the type, until several types got it without a success in between: then it
   is about every launch.
5. An account without fleets or launch templates launches directly, and asks for no more fleets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from botocore.exceptions import ClientError

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import LaunchRequest, Offer
from cloud_tasks_aws.compute.compute_errors import (
    QUOTAS,
    is_after_the_token,
    is_not_yet_visible,
    is_transient,
    launch_error,
    widen_unknown,
)
from cloud_tasks_aws.compute.fleets import FleetsRefusedError, Place, launch_from_fleet, places_for
from cloud_tasks_aws.compute.network import Network
from cloud_tasks_aws.compute.quotas import counts_standard_families, limit_of
from cloud_tasks_aws.compute.retries import Outcome, retry_call
from cloud_tasks_aws.compute.tags import TOKEN_TAG
from cloud_tasks_aws.compute.templates import LaunchTemplates
from cloud_tasks_aws.errors import code_of, problem_of

__all__ = ["Launcher"]

log = structlog.get_logger()

_TOO_LARGE = timedelta(days=1)
_SEVERAL = 3
"""Types that a cause of unknown code must have refused before it is no longer sought in the type."""


class Launcher:
    """Launches instances. Thread-safe.

    Args:
        ec2: A client that retries transient errors.
        once: A client without retries: EC2 answers missing capacity with a 5xx status.
        quotas: Creates the Service Quotas client when a quota refused a launch.
        own_groups: Whether cloud-tasks created the security groups, possibly a moment ago.
    """

    def __init__(self, ec2: Any, once: Any, network: Network, quotas: Callable[[], Any], *, own_groups: bool) -> None:
        self._ec2 = ec2
        self._once = once
        self._network = network
        self._quotas = quotas
        self._own_groups = own_groups
        self._templates = LaunchTemplates(once)
        self._uses_fleets = True
        self._outcomes: dict[str, Outcome] = {}
        """Of each client token whose launch has no definite answer yet: core repeats it."""
        self._unknown: dict[str, set[str]] = {}
        """Types that were refused since the last success, by code, where no rule knows the code."""

    def start(self, request: LaunchRequest, arguments: Mapping[str, Any]) -> Any:
        """Launch and return EC2's description of the instance.

        Args:
            arguments: `RunInstances` arguments of the request's own offer.

        Raises:
            LaunchRefusedError: EC2 refused the launch.
            LaunchFailedError: The instance of this client token has ended.
            ProviderError: The outcome is unknown; repeating the same request resolves it.
        """
        outcome = self._outcomes.setdefault(request.client_token, Outcome())
        try:
            found = self._start(request, arguments, outcome)
        except (LaunchRefusedError, LaunchFailedError):
            self._outcomes.pop(request.client_token, None)
            raise
        self._outcomes.pop(request.client_token, None)
        self._unknown.clear()
        return found

    def close(self, job_id: str | None) -> None:
        """Delete the launch templates of the launches, and those that a killed controller of this job left."""
        self._templates.close(job_id)

    def _start(self, request: LaunchRequest, arguments: Mapping[str, Any], outcome: Outcome) -> Any:
        places = places_for(request, self._network.subnets_beside(request.offer.zone)) if self._uses_fleets else ()

        def run() -> Any:
            with outcome.noting():
                return self._once.run_instances(**arguments)["Instances"][0]

        try:
            if len(places) > 1:
                try:
                    instance_id = self._one_of(request, arguments, places, outcome)
                    outcome.is_open = True
                    return self._describe(instance_id)
                except FleetsRefusedError as error:
                    if self._uses_fleets:
                        log.warning(
                            f"EC2 fleets cannot be used, launching directly: {problem_of(error.__cause__).text}"
                        )
                    self._uses_fleets, places = False, ()
            return retry_call(run, retryable=self._may_pass)
        except LaunchRefusedError as refusal:
            raise self._scoped(request.offer, refusal, alone=False) from refusal.__cause__
        except ClientError as error:
            if code_of(error) == "IdempotentParameterMismatch":
                return self._find_earlier(request, error)
            if code_of(error) == "IdempotentInstanceTerminated":
                raise LaunchFailedError("the instance of this client token has ended") from error
            if code_of(error).endswith(".NotFound"):
                # The cached group or subnet may have been deleted.
                self._network.forget()
            cause = launch_error(request.offer, error, is_answered=not outcome.is_open)
            if outcome.is_open and not is_after_the_token(error):
                raise ProviderError(cause.message, transient=True, hint=cause.hint) from error
            raise self._scoped(request.offer, cause, alone=len(places) < 2) from error

    def _may_pass(self, error: BaseException) -> bool:
        return is_transient(error) or is_not_yet_visible(error, own_groups=self._own_groups)

    def _one_of(
        self, request: LaunchRequest, arguments: Mapping[str, Any], places: tuple[Place, ...], outcome: Outcome
    ) -> str:
        return launch_from_fleet(
            self._once,
            request,
            arguments,
            places,
            outcome,
            templates=self._templates,
            own_groups=self._own_groups,
        )

    def _describe(self, instance_id: str) -> Any:
        """Return the description of a new instance, which EC2 may list with a delay."""

        def describe() -> Any:
            return self._ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

        try:
            return retry_call(describe, retryable=lambda error: is_transient(error) or _is_unknown(error))
        except ClientError as error:
            # The instance runs: reporting a refusal would leave it unmanaged.
            message = f"started {instance_id} but cannot describe it: {code_of(error)}"
            raise ProviderError(message, transient=True) from error

    def _find_earlier(self, request: LaunchRequest, error: ClientError) -> Any:
        """Return the instance that the token started earlier with other arguments, e.g. an older default image."""
        filters = [{"Name": f"tag:{TOKEN_TAG}", "Values": [request.client_token]}]
        for page in self._ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for reservation in page["Reservations"]:
                return reservation["Instances"][0]
        message = "the client token was used with other arguments, and its instance is not listed yet"
        raise ProviderError(message, transient=True) from error

    def _scoped(self, offer: Offer, refusal: ProviderError, *, alone: bool) -> ProviderError:
        """Return the error with the scope that quotas and earlier refusals show.

        Args:
            alone: Whether the refusal is about this offer only.
        """
        if not isinstance(refusal, LaunchRefusedError):
            return refusal
        if refusal.reason in QUOTAS:
            return self._narrow_quota(offer, refusal, alone=alone)
        types = self._unknown.setdefault(refusal.reason, set())
        types.add(offer.instance_type.name)
        return (widen_unknown(refusal) if len(types) >= _SEVERAL else None) or refusal

    def _narrow_quota(self, offer: Offer, refusal: LaunchRefusedError, *, alone: bool) -> LaunchRefusedError:
        """Return a refusal by a quota limited to the instance type where the quota allows; others unchanged."""
        limit = None
        with suppress(ProviderError):
            limit = limit_of(self._quotas(), offer)
        if limit is not None and limit < offer.instance_type.vcpus:
            message = f"{refusal.message}; {offer.instance_type.vcpus} vCPUs exceed the quota of {limit:g}"
            return _refuse_type(refusal, message, _TOO_LARGE if alone else refusal.retry_after, needs_action=True)
        if not counts_standard_families(offer.instance_type.name):
            return _refuse_type(refusal, refusal.message, refusal.retry_after)
        return refusal


def _refuse_type(
    refusal: LaunchRefusedError, message: str, delay: timedelta, *, needs_action: bool = False
) -> LaunchRefusedError:
    return LaunchRefusedError(
        message,
        scope=RefusalScope.INSTANCE_TYPE,
        retry_after=delay,
        reason=refusal.reason,
        hint=refusal.hint,
        needs_action=needs_action,
    )


def _is_unknown(error: BaseException) -> bool:
    return code_of(error) == "InvalidInstanceID.NotFound"
