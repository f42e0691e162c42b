"""Minimum permissions of controller and workers, as IAM policy documents.

Names of actions and condition keys: "Actions, resources, and condition keys" for Amazon EC2, Amazon SQS, AWS Price List
and AWS Systems Manager, in the Service Authorization Reference.

Invariant, with a test: actions that change or delete resources are limited to the cloud-tasks tag or the queue prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cloud_tasks.plugin import CheckContext
from cloud_tasks_aws.session import partition_of
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["policies"]

_TAG = "cloud-tasks-job"
_READ = (
    "DescribeAvailabilityZones",
    "DescribeImages",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeLaunchTemplates",
    "DescribeRegions",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "DescribeSpotPriceHistory",
    "DescribeSubnets",
    "DescribeVpcs",
)
_QUEUE_USE = (
    "ChangeMessageVisibility",
    "DeleteMessage",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ReceiveMessage",
    "SendMessage",
)
_QUEUE_MANAGE = ("CreateQueue", "DeleteQueue", "ListQueueTags", "PurgeQueue", "TagQueue")
_CREATED = ("instance", "network-interface", "volume")
"""Resource types that a launch creates."""
_IMAGES = ("arn:aws:ec2:*::image/*", "arn:aws:ec2:*::snapshot/*")
_TAGGING = ("CreateFleet", "CreateImage", "CreateLaunchTemplate", "RunInstances")
_READ_WRITE = ("AbortMultipartUpload", "GetObject", "PutObject")
_PLACEHOLDER = "<WORKER-ROLE>"


def policies(settings: AwsSettings, context: CheckContext) -> Mapping[str, str]:
    """Return the policy documents by name; text in angle brackets is a placeholder for the user to replace."""
    stores, downloads, staging = (
        [url.removeprefix("s3://").rstrip("/") for url in urls if url.startswith("s3://")]
        for urls in (context.stores, context.downloads, [context.staging])
    )
    region = context.region or settings.region or ""
    partition = partition_of(region)
    # Both names are in use in China.
    services = ["ec2.amazonaws.com", *(["ec2.amazonaws.com.cn"] if partition == "aws-cn" else [])]
    documents = {
        "controller": [
            *_controller(settings, services),
            *_objects("Results", stores, _READ_WRITE),
            # Instances download with addresses that the controller signs, so that the worker needs none of it.
            *_objects("Staging", staging, ("AbortMultipartUpload", "DeleteObject", "GetObject", "PutObject")),
        ],
        "worker": [
            *_worker(settings),
            *_objects("Results", stores, _READ_WRITE),
            *_objects("Code", downloads, ["GetObject"]),
        ],
        "worker trust": [{"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}],
    }
    return {name: _document(found).replace("arn:aws:", f"arn:{partition}:") for name, found in documents.items()}


def _controller(settings: AwsSettings, services: Sequence[str]) -> list[dict[str, Any]]:
    statements = [
        _allow("DescribeResources", "ec2", _READ),
        _allow("GetImageParameters", "ssm", ["GetParameter"], "arn:aws:ssm:*::parameter/aws/service/*"),
        _allow("GetQuotas", "servicequotas", ["GetServiceQuota"]),
        _allow("GetInstanceProfile", "iam", ["GetInstanceProfile"], "arn:aws:iam::*:instance-profile/*"),
        _allow("GetPrices", "pricing", ["DescribeServices", "GetProducts"]),
        _allow(
            "LaunchTaggedInstances",
            "ec2",
            ["RunInstances"],
            *_ec2(*_CREATED),
            condition={"Null": {f"aws:RequestTag/{_TAG}": "false"}},
        ),
        _allow("LaunchInputs", "ec2", ["RunInstances"], *_launch_inputs()),
        # A fleet launches with the caller's permissions, so the tag above is required of its instances too.
        _allow("CreateFleets", "ec2", ["CreateFleet"], *_ec2("fleet", *_CREATED), *_launch_inputs()),
        _allow(
            "CreateFleetTemplates",
            "ec2",
            ["CreateLaunchTemplate"],
            *_ec2("launch-template"),
            condition={"Null": {f"aws:RequestTag/{_TAG}": "false"}},
        ),
        _allow(
            "DeleteOwnTemplates",
            "ec2",
            ["DeleteLaunchTemplate"],
            *_ec2("launch-template"),
            condition={"Null": {f"aws:ResourceTag/{_TAG}": "false"}},
        ),
        _allow(
            "TagAtLaunch",
            "ec2",
            ["CreateTags"],
            *_ec2("launch-template", *_CREATED),
            *_IMAGES,
            condition={"StringEquals": {"ec2:CreateAction": list(_TAGGING)}},
        ),
        _allow(
            "TerminateOwnInstances",
            "ec2",
            ["GetConsoleOutput", "TerminateInstances"],
            *_ec2("instance"),
            condition={"Null": {f"aws:ResourceTag/{_TAG}": "false"}},
        ),
        *_image_statements(),
        _allow(
            "CreateSpotServiceRole",
            "iam",
            ["CreateServiceLinkedRole"],
            "arn:aws:iam::*:role/aws-service-role/ec2fleet.amazonaws.com/*",
            "arn:aws:iam::*:role/aws-service-role/spot.amazonaws.com/*",
        ),
        _allow(
            "PassWorkerRole",
            "iam",
            ["PassRole"],
            f"arn:aws:iam::*:role/{_PLACEHOLDER}",
            condition={"StringEquals": {"iam:PassedToService": services}},
        ),
        _allow("ManageQueues", "sqs", sorted(_QUEUE_USE + _QUEUE_MANAGE), _queues(settings)),
    ]
    if settings.script_location is not None:
        place = settings.script_location.removeprefix("s3://").rstrip("/")
        actions = ["DeleteObject", "GetObject", "PutObject"]
        statements.append(_allow("StoreLargeScripts", "s3", actions, f"arn:aws:s3:::{place}/*"))
    if not settings.security_groups:
        statements.append(_allow("CreateSecurityGroup", "ec2", ["CreateSecurityGroup"], *_ec2("security-group", "vpc")))
    return statements + _oversize(settings)


def _worker(settings: AwsSettings) -> list[dict[str, Any]]:
    return [
        _allow("UseQueues", "sqs", _QUEUE_USE, _queues(settings)),
        *_oversize(settings),
    ]


def _oversize(settings: AwsSettings) -> list[dict[str, Any]]:
    """Return the statements for messages over the size limit of SQS."""
    if settings.oversize_location is None:
        return []
    place = settings.oversize_location.removeprefix("s3://").rstrip("/")
    return _objects("LargeMessages", [place], ["DeleteObject", "GetObject", "PutObject"])


def _objects(name: str, places: Sequence[str], actions: Sequence[str]) -> list[dict[str, Any]]:
    """Return the statements for objects below these places, ``bucket/prefix`` each."""
    if not places:
        return []
    # A URL of a startup script may be that of one object.
    objects = [each for place in places for each in ([place] if "/" in place else []) + [f"{place}/*"]]
    # Without ListBucket, S3 answers 403 instead of 404 for a missing object ("GetObject", Amazon S3 API Reference).
    buckets = dict.fromkeys(f"arn:aws:s3:::{place.partition('/')[0]}" for place in places)
    return [
        _allow(f"List{name}", "s3", ["ListBucket"], *buckets),
        _allow(f"Use{name}", "s3", actions, *dict.fromkeys(f"arn:aws:s3:::{each}" for each in objects)),
    ]


def _launch_inputs() -> list[str]:
    return [
        # Spot instance requests are created by a launch and carry no tag.
        *_ec2("key-pair", "launch-template", "security-group", "spot-instances-request", "subnet"),
        *_IMAGES,
    ]


def _image_statements() -> list[dict[str, Any]]:
    """Return the statements for ``cloud-tasks image build``: images of own instances, and what is left of them."""
    own = {"Null": {f"aws:ResourceTag/{_TAG}": "false"}}
    tagged = {"Null": {f"aws:RequestTag/{_TAG}": "false"}}
    return [
        _allow("UseOwnInstances", "ec2", ["CreateImage", "StopInstances"], *_ec2("instance"), condition=own),
        _allow("CreateTaggedImages", "ec2", ["CreateImage"], *_IMAGES, condition=tagged),
        _allow("DeleteOwnImages", "ec2", ["DeleteSnapshot", "DeregisterImage"], *_IMAGES, condition=own),
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
