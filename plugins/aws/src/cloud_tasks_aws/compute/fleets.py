"""Launch of one instance from several offers with `CreateFleet` of type ``instant``.

Spot fleets use ``price-capacity-optimized``, by which EC2 weighs the price against the risk of an interruption;
on-demand fleets take the first offer in the request's order that is in stock. Names: "CreateFleet" and
"CreateLaunchTemplate" of the EC2 API reference. Refusals are part of a successful response, one per override; a fleet
tries three overrides at most and returns `UnfulfillableCapacity` for the others (as measured by users: the reference
does not state it).

Invariants, each with a test:

1. A client token starts at most one instance; the token is stored as a tag, since EC2 sets the instance's own token.
2. Another fleet is requested only after a response that the previous one started nothing, with a token derived from
   the request's: repeating the request repeats the same fleets in the same order.
3. The request is refused only when every offer was refused. Decisive is the refusal of the request's own offer or one
   of the whole account or region; a refusal of another offer's type or zone never blocks the own offer. The delay is
   the shortest of all refusals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from botocore.exceptions import ClientError

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import LaunchRequest, Offer, ProvisioningModel
from cloud_tasks_aws.compute.build import max_price
from cloud_tasks_aws.compute.burstable import credit_mode
from cloud_tasks_aws.compute.compute_errors import (
    NO_FLEETS,
    QUOTAS,
    UNTRIED,
    is_not_yet_visible,
    is_template_unknown,
    is_transient,
    launch_error,
)
from cloud_tasks_aws.compute.quotas import quota_of
from cloud_tasks_aws.compute.retries import Outcome, retry_call
from cloud_tasks_aws.compute.templates import LaunchTemplates, Template
from cloud_tasks_aws.errors import code_of

__all__ = ["FleetsRefusedError", "fleet_arguments", "launch_from_fleet", "places_for"]

_MAX_PLACES = 100
"""Far below the 300 pools (type and subnet) of a fleet: "EC2 Fleet quotas", EC2 user guide."""

Place = tuple[Offer, str]
"""An offer and the subnet to start it in."""


class FleetsRefusedError(Exception):
    """The account has no fleets or launch templates. Nothing was started, and a direct launch may succeed."""


def places_for(request: LaunchRequest, subnets: Mapping[str, str]) -> tuple[Place, ...]:
    """Return the offers that one launch template can serve, in the request's order, the request's own offer first.

    Args:
        subnets: Subnet ids by zone; offers in other zones are left out.
    """
    own = request.offer
    found: dict[tuple[str, str], Place] = {}
    for offer in (own, *request.alternatives):
        # A template has one image, one disk, one provisioning model and one credit mode.
        fits = (
            offer.provisioning_model is own.provisioning_model
            and offer.boot_disk == own.boot_disk
            and offer.instance_type.architecture is own.instance_type.architecture
            and credit_mode(offer.instance_type.name) == credit_mode(own.instance_type.name)
        )
        subnet = subnets.get(offer.zone)
        if fits and subnet is not None:
            # EC2 rejects a fleet with a duplicate pool.
            found.setdefault((offer.instance_type.name, subnet), (offer, subnet))
    return tuple(found.values())[:_MAX_PLACES]


def launch_from_fleet(
    ec2: Any,
    request: LaunchRequest,
    arguments: Mapping[str, Any],
    places: Sequence[Place],
    outcome: Outcome,
    *,
    templates: LaunchTemplates,
    own_groups: bool,
) -> str:
    """Start one instance and return its id.

    Args:
        ec2: A client without retries.
        arguments: `RunInstances` arguments of the request's own offer.
        places: The result of `places_for`.
        outcome: That of the client token.
        own_groups: Whether cloud-tasks created the security groups, so that an unknown group was just created.

    Raises:
        LaunchRefusedError: EC2 refused every offer.
        FleetsRefusedError: EC2 refuses fleets or launch templates of this account.
        ProviderError: The outcome is unknown.
        ClientError: A call itself failed.
    """
    try:
        with templates.shared(arguments) as template:
            fleets = _Fleets(ec2, request, template, places, outcome, arguments, own_groups=own_groups)
            return retry_call(fleets.request, retryable=fleets.may_pass)
    except ClientError as error:
        if code_of(error) in NO_FLEETS and not outcome.is_open:
            raise FleetsRefusedError from error
        raise


@attrs.define
class _Fleets:
    """The fleets of one launch request, requested in turn until one starts an instance."""

    _ec2: Any
    _request: LaunchRequest
    _template: Template
    _places: Sequence[Place]
    _outcome: Outcome
    _arguments: Mapping[str, Any]
    _own_groups: bool = attrs.field(kw_only=True)
    _number: int = attrs.field(default=0, init=False)

    def may_pass(self, error: BaseException) -> bool:
        """Return whether the next fleet may succeed: a transient error, or a resource not yet visible."""
        return is_transient(error) or is_not_yet_visible(error, own_groups=self._own_groups)

    def request(self) -> str:
        """Request a fleet and return the id of its instance."""
        token = self._request.client_token
        try:
            with self._outcome.noting():
                response = self._ec2.create_fleet(
                    **fleet_arguments(
                        self._template.name,
                        f"{token}-{self._number}" if self._number else token,
                        self._places,
                        max_price=max_price(self._request),
                        tags=self._arguments["TagSpecifications"][0]["Tags"],
                    )
                )
                # A response without this field is not EC2's, and the fleet may have started an instance.
                _ = response["FleetId"]
        except ClientError as error:
            if is_not_yet_visible(error, own_groups=self._own_groups):
                self._number += 1
            if is_template_unknown(error):
                self._template.create()
            raise
        started = [each for entry in response.get("Instances", ()) for each in entry["InstanceIds"]]
        if started:
            return str(started[0])
        # EC2 would repeat its answer for the same token.
        self._number += 1
        raise self._error(response.get("Errors", ()))

    def _error(self, entries: Sequence[Mapping[str, Any]]) -> Exception:
        """Return the error of the request's own offer from the errors of a fleet."""
        if not entries:
            return ProviderError("the fleet started no instance and reported no error", transient=True)
        errors = [(_override(each), _client_error(each)) for each in entries]
        for _, error in errors:
            if self.may_pass(error):
                return error
        return self._refusal(errors)

    def _refusal(self, errors: Sequence[tuple[tuple[str, str], ClientError]]) -> LaunchRefusedError | ProviderError:
        own_offer, own_subnet = self._places[0]
        own_type, provisioning_model = own_offer.instance_type.name, own_offer.provisioning_model
        tried = [(place, launch_error(own_offer, error)) for place, error in errors if code_of(error) != UNTRIED]
        # Quotas of other instance families do not affect the own offer.
        same_quota = [
            (place, refusal)
            for place, refusal in tried
            if _reason_of(refusal) not in QUOTAS
            or quota_of(place[0], provisioning_model) == quota_of(own_type, provisioning_model)
        ]
        candidates = (
            *(refusal for _, refusal in tried if _scope_of(refusal) is RefusalScope.ACCOUNT),
            *(refusal for (kind, subnet), refusal in tried if kind == own_type and subnet in (own_subnet, "")),
            *(refusal for _, refusal in same_quota if _scope_of(refusal) is RefusalScope.REGION),
            launch_error(own_offer, _client_error({"ErrorCode": UNTRIED, "ErrorMessage": _summary(errors)})),
        )
        chosen = candidates[0]
        if not isinstance(chosen, LaunchRefusedError):
            return chosen
        refusals = [launch_error(own_offer, error) for _, error in errors]
        delay = min(each.retry_after for each in refusals if isinstance(each, LaunchRefusedError))
        return LaunchRefusedError(
            chosen.message,
            scope=chosen.scope,
            retry_after=delay,
            reason=chosen.reason,
            hint=chosen.hint,
            needs_action=chosen.needs_action,
        )


def _scope_of(error: ProviderError) -> RefusalScope | None:
    return error.scope if isinstance(error, LaunchRefusedError) else None


def _reason_of(error: ProviderError) -> str:
    return error.reason if isinstance(error, LaunchRefusedError) else ""


def _summary(errors: Sequence[tuple[tuple[str, str], ClientError]]) -> str:
    """Return the distinct error codes."""
    return ", ".join(sorted({code_of(error) for _, error in errors}))


def fleet_arguments(
    template: str,
    token: str,
    places: Sequence[Place],
    *,
    max_price: str | None,
    tags: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """Return the arguments of `CreateFleet` for one instance.

    Args:
        tags: Tags of the instance.
        max_price: Maximum spot price in US dollars per hour; None for the on-demand price.
    """
    spot = places[0][0].provisioning_model is ProvisioningModel.SPOT
    overrides: list[dict[str, Any]] = [
        {"InstanceType": offer.instance_type.name, "SubnetId": subnet} for offer, subnet in places
    ]
    if spot:
        if max_price is not None:
            overrides = [{**each, "MaxPrice": max_price} for each in overrides]
        options = {"AllocationStrategy": "price-capacity-optimized", "InstanceInterruptionBehavior": "terminate"}
    else:
        # On-demand instances are not interrupted, so the request's order decides; the lowest number comes first.
        options = {"AllocationStrategy": "prioritized"}
        overrides = [{**each, "Priority": float(number)} for number, each in enumerate(overrides)]
    return {
        "Type": "instant",
        "ClientToken": token,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": "$Latest"},
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": "spot" if spot else "on-demand",
        },
        "SpotOptions" if spot else "OnDemandOptions": options,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
    }


def _override(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the instance type and subnet of an entry of ``Errors``."""
    override = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    return str(override.get("InstanceType", "")), str(override.get("SubnetId", ""))


def _client_error(entry: Mapping[str, Any]) -> ClientError:
    """Return an entry of ``Errors`` as the `ClientError` of a direct launch."""
    response: Any = {"Error": {"Code": entry.get("ErrorCode", "Unknown"), "Message": entry.get("ErrorMessage", "")}}
    return ClientError(response, "CreateFleet")
