"""`RunInstances` arguments of a launch request. Names: "RunInstances" of the EC2 API reference.

Invariants, each with a test:

1. Power-off terminates the instance and deletes its volumes and network interfaces, so that billing stops.
2. The metadata service requires a session token (IMDSv2).
3. A burstable type is launched in the credit mode that it was priced with, whatever the account's default is.
4. A spot instance is never charged more than the maximum price of its request.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from cloud_tasks.model import LaunchRequest, ProvisioningModel
from cloud_tasks_aws.compute.burstable import credit_mode
from cloud_tasks_aws.compute.disks import ebs_block
from cloud_tasks_aws.compute.image_resolver import BootImage
from cloud_tasks_aws.compute.tags import tags_of
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["launch_arguments", "max_price", "profile_argument"]

_PRICE_UNIT = Decimal("0.0001")

_HOP_LIMIT = 2
"""Network hops of metadata responses: one more than the instance itself, for tasks in containers."""


def launch_arguments(
    request: LaunchRequest,
    settings: AwsSettings,
    *,
    user_data: bytes,
    image: BootImage,
    interface: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the arguments of `RunInstances`."""
    offer = request.offer
    resource_tags = tags_of(request, settings.tags)
    arguments: dict[str, Any] = {
        "ClientToken": request.client_token,
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": image.image_id,
        "InstanceType": offer.instance_type.name,
        "Placement": {"AvailabilityZone": offer.zone},
        "UserData": user_data,
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root_device,
                "Ebs": ebs_block(offer.boot_disk, image_gb=image.size_gb, encrypted=settings.encrypt_boot_disk),
            }
        ],
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": _HOP_LIMIT,
        },
        "InstanceInitiatedShutdownBehavior": "terminate",
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": resource_tags} for kind in ("instance", "volume", "network-interface")
        ],
        **interface,
    }
    if settings.key_name:
        arguments["KeyName"] = settings.key_name
    if settings.instance_profile:
        arguments["IamInstanceProfile"] = profile_argument(settings.instance_profile)
    mode = credit_mode(offer.instance_type.name)
    if mode is not None:
        arguments["CreditSpecification"] = {"CpuCredits": mode}
    if offer.provisioning_model is ProvisioningModel.SPOT:
        spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        if (limit := max_price(request)) is not None:
            spot["MaxPrice"] = limit
        arguments["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot}
    return arguments


def profile_argument(profile: str) -> dict[str, str]:
    """Return the argument for an instance profile, by name or ARN."""
    return {"Arn" if profile.startswith("arn:") else "Name": profile}


def max_price(request: LaunchRequest) -> str | None:
    """Return the maximum price of a spot instance in US dollars per hour; None for the on-demand price."""
    limit = request.max_price_per_hour
    return None if limit is None else f"{limit.usd.quantize(_PRICE_UNIT, ROUND_CEILING):f}"
