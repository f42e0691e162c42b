"""One instance of whichever of several offers EC2 thinks best: `CreateFleet` of type ``instant``.

For spot that is ``price-capacity-optimized``, by which EC2 weighs the price against the risk of an interruption; on
demand it is the first of our own order that is in stock. Names: "CreateFleet" and "CreateLaunchTemplate" of the EC2 API
reference. Refusals come inside a successful answer, one for each override; a fleet tries three of them at most, and
says `UnfulfillableCapacity` of the others (as others measured: the reference does not say so).

Invariants, each with a test:

1. A client token starts at most one instance; it is kept as a tag, for the instance's own token is EC2's.
2. The launch template that a fleet needs is made once, and does not outlive the call.
3. Another fleet is asked for only after an answer that the one before started nothing, by a token that follows from
   the request's: whoever repeats the request asks for the same fleets in the same order.
4. Only when every offer was refused is the request refused. What counts is what was said of the request's own offer,
   but for what concerns every launch; what was said of another's type or zone never blocks the own one's. All are
   avoided for as long as the mildest of the refusals asks for.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cloud_tasks.errors import LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.model import LaunchRequest, Offer, Purchase
from cloud_tasks_aws.compute.failures import QUOTAS, UNTRIED, passing, refused, unknown_yet
from cloud_tasks_aws.compute.patience import patiently
from cloud_tasks_aws.compute.quotas import quota_of
from cloud_tasks_aws.failures import code_of

__all__ = ["launch_one_of", "places_for"]

_ONLY_OF_A_LAUNCH = ("ClientToken", "MinCount", "MaxCount", "Placement", "InstanceType", "InstanceMarketOptions")
_ONLY_OF_A_PLACE = ("SubnetId", "NetworkInterfaces")
_MOST_PLACES = 100
"""Far below the 300 pools (type and subnet) of a fleet: "EC2 Fleet quotas", EC2 user guide."""

Place = tuple[Offer, str]
"""An offer, and the subnet that it would be started in."""


def places_for(request: LaunchRequest, subnets: Mapping[str, str]) -> tuple[Place, ...]:
    """The offers that one launch template can serve, in the request's order, the own one first.

    Args:
        subnets: By zone; what is in a zone without one is left out.
    """
    own = request.offer
    found: dict[tuple[str, str], Place] = {}
    for offer in (own, *request.alternatives):
        # A template has one image, one disk and one way of buying.
        fits = (
            offer.purchase is own.purchase
            and offer.boot_disk == own.boot_disk
            and offer.instance_type.architecture is own.instance_type.architecture
        )
        subnet = subnets.get(offer.zone)
        if fits and subnet is not None:
            # EC2 refuses a fleet that names a pool twice.
            found.setdefault((offer.instance_type.name, subnet), (offer, subnet))
    return tuple(found.values())[:_MOST_PLACES]


def launch_one_of(
    ec2: Any, request: LaunchRequest, arguments: Mapping[str, Any], places: Sequence[Place], *, own_groups: bool
) -> str:
    """Start one instance; returns its id.

    Args:
        ec2: A client that makes a call once.
        arguments: Those of `RunInstances` for the request's own offer.
        places: As `places_for` tells them.
        own_groups: Whether the security groups are ours, so that one that EC2 does not know was just made.

    Raises:
        LaunchRefusedError: EC2 will start none of them.
        ProviderError: It is not known whether one was started.
        ClientError: Of a call itself.
    """
    name = f"cloud-tasks-{request.client_token}"
    fleets = _Fleets(ec2, request, name, places, own_groups=own_groups)
    patiently(lambda: _make_template(ec2, name, arguments))
    try:
        return patiently(fleets.ask, again=fleets.may_pass)
    finally:
        # What cannot be removed now costs nothing; its name says whose it was.
        with suppress(ClientError, BotoCoreError):
            patiently(lambda: ec2.delete_launch_template(LaunchTemplateName=name))


class _Fleets:
    """The fleets that are asked for in the name of one request, until one has an instance."""

    def __init__(
        self, ec2: Any, request: LaunchRequest, template: str, places: Sequence[Place], *, own_groups: bool
    ) -> None:
        self._ec2 = ec2
        self._request = request
        self._template = template
        self._places = places
        self._own_groups = own_groups
        self._number = 0

    def may_pass(self, error: BaseException) -> bool:
        """Whether the next fleet may do better: passing trouble, or something made so recently that EC2 lacks it."""
        return passing(error) or unknown_yet(error, own_groups=self._own_groups)

    def ask(self) -> str:
        """The id of the instance that a fleet started."""
        token = self._request.client_token
        try:
            answer = self._ec2.create_fleet(
                **_fleet(self._template, f"{token}-{self._number}" if self._number else token, self._places)
            )
        except ClientError as error:
            if unknown_yet(error, own_groups=self._own_groups):
                self._number += 1
            raise
        started = [each for entry in answer.get("Instances", ()) for each in entry["InstanceIds"]]
        if started:
            return str(started[0])
        # With this token EC2 would only say the same again.
        self._number += 1
        raise self._reason(answer.get("Errors", ()))

    def _reason(self, entries: Sequence[Mapping[str, Any]]) -> Exception:
        """Of all that was said, what the request's own offer has to know."""
        if not entries:
            return ProviderError("the fleet started no instance and does not say why", transient=True)
        said = [(_override(each), _error(each)) for each in entries]
        for _, error in said:
            if self.may_pass(error):
                return error
        return self._refusal(said)

    def _refusal(self, said: Sequence[tuple[tuple[str, str], ClientError]]) -> LaunchRefusedError | ProviderError:
        own_offer, own_subnet = self._places[0]
        own_type, purchase = own_offer.instance_type.name, own_offer.purchase
        tried = [(place, refused(own_offer, error)) for place, error in said if code_of(error) != UNTRIED]
        # A quota of other families says nothing of ours.
        near = [
            (place, refusal)
            for place, refusal in tried
            if _reason_of(refusal) not in QUOTAS or quota_of(place[0], purchase) == quota_of(own_type, purchase)
        ]
        candidates = (
            *(refusal for _, refusal in tried if _scope_of(refusal) is RefusalScope.ACCOUNT),
            *(refusal for (kind, subnet), refusal in tried if kind == own_type and subnet in (own_subnet, "")),
            *(refusal for _, refusal in near if _scope_of(refusal) is RefusalScope.REGION),
            refused(own_offer, _error({"ErrorCode": UNTRIED, "ErrorMessage": _summary(said)})),
        )
        chosen = candidates[0]
        if not isinstance(chosen, LaunchRefusedError):
            return chosen
        everyone = [refused(own_offer, error) for _, error in said]
        away = min(each.retry_after for each in everyone if isinstance(each, LaunchRefusedError))
        return LaunchRefusedError(
            chosen.message, scope=chosen.scope, retry_after=away, reason=chosen.reason, hint=chosen.hint
        )


def _scope_of(error: ProviderError) -> RefusalScope | None:
    return error.scope if isinstance(error, LaunchRefusedError) else None


def _reason_of(error: ProviderError) -> str:
    return error.reason if isinstance(error, LaunchRefusedError) else ""


def _summary(said: Sequence[tuple[tuple[str, str], ClientError]]) -> str:
    """What was said, each code once."""
    return ", ".join(sorted({code_of(error) for _, error in said}))


def _make_template(ec2: Any, name: str, arguments: Mapping[str, Any]) -> None:
    data = {k: v for k, v in arguments.items() if k not in (*_ONLY_OF_A_LAUNCH, *_ONLY_OF_A_PLACE)}
    interfaces = arguments.get("NetworkInterfaces")
    if interfaces is not None:
        # The subnet is the offer's, the rest of the interface holds for all of them.
        data["NetworkInterfaces"] = [{k: v for k, v in each.items() if k != "SubnetId"} for each in interfaces]
    data["UserData"] = base64.b64encode(arguments["UserData"]).decode()
    marks = arguments["TagSpecifications"][0]["Tags"]
    try:
        ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData=data,
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": marks}],
        )
    except ClientError as error:
        if code_of(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
            raise


def _fleet(template: str, token: str, places: Sequence[Place]) -> dict[str, Any]:
    spot = places[0][0].purchase is Purchase.SPOT
    overrides: list[dict[str, Any]] = [
        {"InstanceType": offer.instance_type.name, "SubnetId": subnet} for offer, subnet in places
    ]
    if spot:
        options = {"AllocationStrategy": "price-capacity-optimized", "InstanceInterruptionBehavior": "terminate"}
    else:
        # Nobody takes these away, so our own order counts; the lowest number comes first.
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
    }


def _override(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The type and the subnet that an entry of ``Errors`` speaks of."""
    named = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    return str(named.get("InstanceType", "")), str(named.get("SubnetId", ""))


def _error(entry: Mapping[str, Any]) -> ClientError:
    """An entry of ``Errors`` as if the launch itself had been answered so."""
    answer: Any = {"Error": {"Code": entry.get("ErrorCode", "Unknown"), "Message": entry.get("ErrorMessage", "")}}
    return ClientError(answer, "CreateFleet")
