"""The least permissions of the controller and of workers, as IAM policy documents.

Names of actions and condition keys: "Actions, resources, and condition keys" for Amazon EC2, Amazon SQS, AWS Price List
and AWS Systems Manager, in the Service Authorization Reference.

Invariant, with a test: nothing that changes or ends something is allowed beyond what carries our tag or our prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cloud_tasks_aws.settings import AwsSettings

__all__ = ["policies"]

_TAG = "cloud-tasks-job"
_LOOK = (
    "DescribeAvailabilityZones",
    "DescribeImages",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeRegions",
    "DescribeSecurityGroups",
    "DescribeSpotPriceHistory",
    "DescribeSubnets",
    "DescribeVpcs",
)
_QUEUE_USE = (
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "ReceiveMessage",
    "SendMessage",
)
_QUEUE_CARE = ("CreateQueue", "DeleteQueue", "ListQueueTags", "TagQueue")
_MADE = ("instance", "network-interface", "volume")
"""What a launch makes."""
_PLACEHOLDER = "<WORKER-ROLE>"


def policies(settings: AwsSettings) -> Mapping[str, str]:
    """The documents by name; what stands in angle brackets is to be filled in."""
    return {
        "controller": _document(_controller(settings)),
        "worker": _document(_worker(settings)),
        "worker trust": _document(
            [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
        ),
    }


def _controller(settings: AwsSettings) -> list[dict[str, Any]]:
    statements = [
        _allow("Look", "ec2", _LOOK),
        _allow("LookUpImages", "ssm", ["GetParameter"], "arn:aws:ssm:*::parameter/aws/service/*"),
        _allow("LookUpQuotas", "servicequotas", ["GetServiceQuota"]),
        _allow("LookUpTheWorkersRole", "iam", ["GetInstanceProfile"], "arn:aws:iam::*:instance-profile/*"),
        _allow("LookUpPrices", "pricing", ["DescribeServices", "GetAttributeValues", "GetProducts"]),
        _allow(
            "LaunchOnlyWithOurTag",
            "ec2",
            ["RunInstances"],
            *_ec2(*_MADE),
            condition={"Null": {f"aws:RequestTag/{_TAG}": "false"}},
        ),
        _allow("LaunchFromAndInto", "ec2", ["RunInstances"], *_launch_inputs()),
        # A fleet launches as whoever asked for it, so the tag above is demanded of its instances too.
        _allow("LetEc2Choose", "ec2", ["CreateFleet"], *_ec2("fleet", *_MADE), *_launch_inputs()),
        _allow(
            "TemplatesOfFleets",
            "ec2",
            ["CreateLaunchTemplate"],
            *_ec2("launch-template"),
            condition={"Null": {f"aws:RequestTag/{_TAG}": "false"}},
        ),
        _allow(
            "RemoveOurTemplates",
            "ec2",
            ["DeleteLaunchTemplate"],
            *_ec2("launch-template"),
            condition={"Null": {f"aws:ResourceTag/{_TAG}": "false"}},
        ),
        _allow(
            "TagAtLaunch",
            "ec2",
            ["CreateTags"],
            *_ec2("launch-template", *_MADE),
            condition={"StringEquals": {"ec2:CreateAction": ["CreateFleet", "CreateLaunchTemplate", "RunInstances"]}},
        ),
        _allow(
            "EndAndReadOurs",
            "ec2",
            ["GetConsoleOutput", "TerminateInstances"],
            *_ec2("instance"),
            condition={"Null": {f"aws:ResourceTag/{_TAG}": "false"}},
        ),
        _allow(
            "SpotForTheFirstTime",
            "iam",
            ["CreateServiceLinkedRole"],
            "arn:aws:iam::*:role/aws-service-role/ec2fleet.amazonaws.com/*",
            "arn:aws:iam::*:role/aws-service-role/spot.amazonaws.com/*",
        ),
        _allow(
            "GiveTheWorkersTheirRole",
            "iam",
            ["PassRole"],
            f"arn:aws:iam::*:role/{_PLACEHOLDER}",
            condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        ),
        _allow("FindQueues", "sqs", ["ListQueues"]),
        _allow("Queues", "sqs", sorted(_QUEUE_USE + _QUEUE_CARE), _queues(settings)),
    ]
    if settings.script_location is not None:
        place = settings.script_location.removeprefix("s3://").rstrip("/")
        actions = ["DeleteObject", "GetObject", "PutObject"]
        statements.append(_allow("LongScripts", "s3", actions, f"arn:aws:s3:::{place}/*"))
    if not settings.security_groups:
        statements.append(_allow("OwnSecurityGroup", "ec2", ["CreateSecurityGroup"], *_ec2("security-group", "vpc")))
    return statements + _oversize(settings)


def _worker(settings: AwsSettings) -> list[dict[str, Any]]:
    return [
        _allow("FindQueues", "sqs", ["ListQueues"]),
        _allow("Queues", "sqs", _QUEUE_USE, _queues(settings)),
        *_oversize(settings),
    ]


def _oversize(settings: AwsSettings) -> list[dict[str, Any]]:
    """What messages over the limit of SQS need."""
    if settings.oversize_location is None:
        return []
    place = settings.oversize_location.removeprefix("s3://").rstrip("/")
    actions = ["DeleteObject", "GetObject", "PutObject"]
    return [
        # Without it S3 calls an object that is not there a forbidden one ("GetObject", Amazon S3 API Reference).
        _allow("SeeWhichAreThere", "s3", ["ListBucket"], f"arn:aws:s3:::{place.partition('/')[0]}"),
        _allow("OversizeMessages", "s3", actions, f"arn:aws:s3:::{place}/*"),
    ]


def _launch_inputs() -> list[str]:
    return [
        # A request for a spot instance is made with it, and has no tag.
        *_ec2("key-pair", "launch-template", "security-group", "spot-instances-request", "subnet"),
        "arn:aws:ec2:*::image/*",
        "arn:aws:ec2:*::snapshot/*",
    ]


def _ec2(*kinds: str) -> list[str]:
    return [f"arn:aws:ec2:*:*:{kind}/*" for kind in kinds]


def _queues(settings: AwsSettings) -> str:
    return f"arn:aws:sqs:*:*:{settings.queue_prefix}*"


def _allow(
    name: str, service: str, actions: Sequence[str], *resources: str, condition: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": name,
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions],
        "Resource": list(resources) or "*",
    }
    return statement if condition is None else {**statement, "Condition": condition}


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=2)
