"""One instance of whichever of several offers EC2 thinks best: `CreateFleet` of type ``instant``.

For spot that is ``price-capacity-optimized``, by which EC2 weighs the price against the risk of an interruption; on
demand it is the lowest price. Names: "CreateFleet" and "CreateLaunchTemplate" of the EC2 API reference.

Invariants, each with a test:

1. A client token starts at most one instance; it is kept as a tag, for the instance's own token is EC2's.
2. The launch template that a fleet needs does not outlive the call.
3. Only when every offer was refused is the request refused; the scope is then that of the first offer's refusal.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import LaunchRequest, Offer, Purchase
from cloud_tasks_aws.compute.failures import refused
from cloud_tasks_aws.failures import code_of

__all__ = ["launch_one_of"]

_ONLY_OF_A_LAUNCH = ("ClientToken", "MinCount", "MaxCount", "Placement", "InstanceType", "InstanceMarketOptions")
_ONLY_OF_A_PLACE = ("SubnetId", "NetworkInterfaces")


def launch_one_of(
    ec2: Any, request: LaunchRequest, arguments: Mapping[str, Any], places: Sequence[tuple[Offer, str]]
) -> str:
    """Start one instance; returns its id.

    Args:
        ec2: A client that makes a call once.
        arguments: Those of `RunInstances` for the request's own offer.
        places: The offers that will do, each with the subnet it would be started in.

    Raises:
        LaunchRefused: EC2 will start none of them.
    """
    name = f"cloud-tasks-{request.client_token}"
    _make_template(ec2, name, request, arguments)
    try:
        answer = ec2.create_fleet(**_fleet(name, request, places))
    finally:
        # What cannot be removed now costs nothing; its name says whose it was.
        with suppress(ClientError):
            ec2.delete_launch_template(LaunchTemplateName=name)
    started = [each for entry in answer.get("Instances", ()) for each in entry["InstanceIds"]]
    if started:
        return str(started[0])
    raise _refusal(request, answer.get("Errors", ()))


def _make_template(ec2: Any, name: str, request: LaunchRequest, arguments: Mapping[str, Any]) -> None:
    data = {k: v for k, v in arguments.items() if k not in (*_ONLY_OF_A_LAUNCH, *_ONLY_OF_A_PLACE)}
    interfaces = arguments.get("NetworkInterfaces")
    if interfaces is not None:
        # The subnet is the offer's, the rest of the interface holds for all of them.
        data["NetworkInterfaces"] = [{k: v for k, v in each.items() if k != "SubnetId"} for each in interfaces]
    data["UserData"] = base64.b64encode(arguments["UserData"]).decode()
    try:
        ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData=data,
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": _marks(arguments)}],
        )
    except ClientError as error:
        if code_of(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
            raise refused(request.offer, error) from error


def _marks(arguments: Mapping[str, Any]) -> Any:
    return arguments["TagSpecifications"][0]["Tags"]


def _fleet(name: str, request: LaunchRequest, places: Sequence[tuple[Offer, str]]) -> dict[str, Any]:
    spot = request.offer.purchase is Purchase.SPOT
    overrides = [{"InstanceType": offer.instance_type.name, "SubnetId": subnet} for offer, subnet in places]
    options: dict[str, Any] = (
        {
            "SpotOptions": {
                "AllocationStrategy": "price-capacity-optimized",
                "InstanceInterruptionBehavior": "terminate",
            }
        }
        if spot
        else {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
    )
    return {
        "Type": "instant",
        "ClientToken": request.client_token,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "$Latest"},
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": "spot" if spot else "on-demand",
        },
        **options,
    }


def _refusal(request: LaunchRequest, errors: Sequence[Mapping[str, Any]]) -> ProviderError:
    """What the refusals of the offers mean together: that of the request's own offer where it is among them."""
    if not errors:
        return ProviderError("the fleet started no instance and does not say why", transient=True)
    own = [each for each in errors if _type_of(each) == request.offer.instance_type.name]
    chosen = (own or list(errors))[0]
    answer: Any = {"Error": {"Code": chosen.get("ErrorCode", "Unknown"), "Message": chosen.get("ErrorMessage", "")}}
    return refused(request.offer, ClientError(answer, "CreateFleet"))


def _type_of(error: Mapping[str, Any]) -> str:
    return str(error.get("LaunchTemplateAndOverrides", {}).get("Overrides", {}).get("InstanceType", ""))
