"""The policies that doctor prints: what they allow, and that it is what the code calls."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import botocore.session
import pytest
from botocore import xform_name

import cloud_tasks_aws
from cloud_tasks.plugin import CheckContext
from cloud_tasks.registry import Registry
from cloud_tasks_aws.settings import AwsSettings

BACKEND = Registry(only=["aws"]).compute("aws")
CONTEXT = CheckContext(region="us-east-1")
COMPLETE = AwsSettings(oversize_location="s3://large/x", script_location="s3://scripts/x")


def documents(settings: AwsSettings) -> dict[str, Any]:
    assert BACKEND.policies is not None
    return {name: json.loads(text) for name, text in BACKEND.policies(settings, CONTEXT).items()}


SERVICES = {
    "ec2": "ec2",
    "iam": "iam",
    "pricing": "pricing",
    "s3": "s3",
    "service-quotas": "servicequotas",
    "sqs": "sqs",
    "ssm": "ssm",
}
"""Services by their name in boto3, with their prefix in policies."""
OTHER_ACTION = {
    # Calls whose permission has another name: "Actions" of each service in the Service Authorization Reference.
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:UploadPart": "s3:PutObject",
}
WITHOUT_A_CALL = {
    # Needed by a launch besides its own action.
    "ec2:CreateTags",
    "iam:CreateServiceLinkedRole",
    "iam:PassRole",
    # Calls of fsspec for stores.
    "s3:AbortMultipartUpload",
    # Needed by an instance that downloads its startup script, with a URL signed by the controller.
    "s3:GetObject",
}


def called() -> set[str]:
    """Return the actions that the source code of the plugin calls."""
    source = "".join(each.read_text() for each in Path(cloud_tasks_aws.__file__).parent.rglob("*.py"))
    names = set(re.findall(r"\.([a-z0-9_]+)(?:\(|, )", source)) | set(
        re.findall(r'get_paginator\("([a-z0-9_]+)"', source)
    )
    session = botocore.session.get_session()
    found = {
        f"{prefix}:{operation}"
        for service, prefix in SERVICES.items()
        for operation in session.get_service_model(service).operation_names
        if xform_name(operation) in names
    }
    return {OTHER_ACTION.get(each, each) for each in found}


def allowed(context: CheckContext, *names: str) -> set[str]:
    assert BACKEND.policies is not None
    texts = BACKEND.policies(COMPLETE, context)
    return {action for name in names for each in json.loads(texts[name])["Statement"] for action in each["Action"]}


def test_policies_allow_exactly_what_the_code_calls() -> None:
    context = attrs.evolve(CONTEXT, stores=("s3://data/results",), downloads=("s3://code/job",))
    found = allowed(context, "controller")
    assert called() - found == set()
    assert found - called() <= WITHOUT_A_CALL
    assert allowed(context, "worker") <= found


def test_policies_has_controller_worker_and_trust_documents() -> None:
    found = documents(AwsSettings())
    assert set(found) == {"controller", "worker", "worker trust"}
    assert {each["Version"] for each in found.values()} == {"2012-10-17"}


def test_policies_limit_instance_changes_to_the_job_tag() -> None:
    restricted = {
        *("ec2:RunInstances", "ec2:TerminateInstances", "ec2:GetConsoleOutput", "ec2:DeleteLaunchTemplate"),
        *("ec2:StopInstances", "ec2:CreateImage", "ec2:DeregisterImage", "ec2:DeleteSnapshot"),
    }
    found = set()
    for statement in documents(AwsSettings())["controller"]["Statement"]:
        touched = restricted & set(statement["Action"])
        kinds = {each.split(":")[5].partition("/")[0] for each in statement["Resource"] if each.count(":") >= 5}
        if touched and statement["Sid"] != "LaunchInputs":
            assert kinds
            assert "cloud-tasks-job" in json.dumps(statement["Condition"]), statement["Sid"]
            found |= touched
    assert found == restricted


def test_policies_allow_only_reads_on_all_resources() -> None:
    for document in documents(AwsSettings()).values():
        for statement in document["Statement"]:
            if statement.get("Resource") == "*":
                verbs = {action.partition(":")[2] for action in statement["Action"]}
                assert all(verb.startswith(("Describe", "Get", "List")) for verb in verbs), statement


def test_worker_policy_allows_only_using_queues() -> None:
    statements = documents(AwsSettings(queue_prefix="mine-"))["worker"]["Statement"]
    allowed = {action: each["Resource"] for each in statements for action in each["Action"]}
    assert "sqs:ReceiveMessage" in allowed
    assert not {"sqs:CreateQueue", "sqs:DeleteQueue", "sqs:PurgeQueue"} & set(allowed)
    assert list(allowed.values()) == [["arn:aws:sqs:*:*:mine-*"]] * len(allowed)
    with_objects = documents(AwsSettings(oversize_location="s3://bucket/big"))["worker"]["Statement"]
    assert with_objects[-1]["Resource"] == ["arn:aws:s3:::bucket/big", "arn:aws:s3:::bucket/big/*"]


def test_policies_allow_the_stores_of_workers_and_the_downloads_of_the_startup_script() -> None:
    context = attrs.evolve(
        CONTEXT,
        stores=("s3://data/results/", "gs://other/logs"),
        downloads=("s3://code/job", "https://example.org/x", "s3://whole"),
    )
    assert BACKEND.policies is not None
    found = BACKEND.policies(AwsSettings(), context)
    statements = {each["Sid"]: each for each in json.loads(found["worker"])["Statement"]}
    assert statements["UseResults"]["Resource"] == ["arn:aws:s3:::data/results", "arn:aws:s3:::data/results/*"]
    assert {"s3:GetObject", "s3:PutObject"} <= set(statements["UseResults"]["Action"])
    assert statements["UseCode"]["Resource"] == [
        "arn:aws:s3:::code/job",
        "arn:aws:s3:::code/job/*",
        "arn:aws:s3:::whole/*",
    ]
    assert statements["UseCode"]["Action"] == ["s3:GetObject"]
    assert statements["ListCode"]["Resource"] == ["arn:aws:s3:::code", "arn:aws:s3:::whole"]
    assert "UseCode" not in found["controller"]
    assert "example.org" not in found["worker"]


@pytest.mark.parametrize(
    ("region", "partition", "services"),
    [
        ("", "aws", ["ec2.amazonaws.com"]),
        ("us-east-1", "aws", ["ec2.amazonaws.com"]),
        ("eusc-de-east-1", "aws-eusc", ["ec2.amazonaws.com"]),
        ("us-gov-west-1", "aws-us-gov", ["ec2.amazonaws.com"]),
        ("cn-north-1", "aws-cn", ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]),
    ],
)
def test_policies_are_those_of_the_partition(region: str, partition: str, services: list[str]) -> None:
    assert BACKEND.policies is not None
    found = BACKEND.policies(AwsSettings(oversize_location="s3://large/x"), CheckContext(region=region))
    arns = {each for text in found.values() for each in re.findall('"(arn:[^:]*):', text)}
    assert arns == {f"arn:{partition}"}
    for name in ("controller", "worker trust"):
        assert set(re.findall(r'"(ec2\.amazonaws[^"]*)"', found[name])) == set(services)


def test_controller_policy_allows_creating_a_group_only_without_security_groups() -> None:
    def may_create(settings: AwsSettings) -> bool:
        return "ec2:CreateSecurityGroup" in json.dumps(documents(settings)["controller"])

    assert may_create(AwsSettings())
    assert not may_create(AwsSettings(security_groups=("sg-1",)))


def test_policies_let_only_the_controller_use_the_staging() -> None:
    assert BACKEND.policies is not None
    context = CheckContext(region="us-east-1", staging="s3://staging/cloud-tasks/")
    found = {name: json.loads(text)["Statement"] for name, text in BACKEND.policies(AwsSettings(), context).items()}
    (listing, use) = (each for each in found["controller"] if each["Sid"].endswith("Staging"))
    assert (listing["Action"], listing["Resource"]) == (["s3:ListBucket"], ["arn:aws:s3:::staging"])
    assert use["Action"] == ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    assert use["Resource"] == ["arn:aws:s3:::staging/cloud-tasks", "arn:aws:s3:::staging/cloud-tasks/*"]
    assert "staging" not in json.dumps(found["worker"])
