"""What the AWS fakes refuse by botocore's descriptions of the services."""

from __future__ import annotations

from typing import Any

import pytest
from aws_shapes import problem_of_form, problem_of_json

LAUNCH = {"Action": "RunInstances", "Version": "2016-11-15", "MinCount": "1", "MaxCount": "1"}
SEND = {"QueueUrl": "http://sqs/1/q", "Entries": [{"Id": "0", "MessageBody": "a"}]}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"TagSpecification.1.ResourceType": "volume", "TagSpecification.1.Tag.1.Key": "a"}, None),
        ({"NetworkInterface.1.AssociatePublicIpAddress": "true", "BlockDeviceMapping.1.Ebs.VolumeSize": "8"}, None),
        ({"Colour": "red"}, "UnknownParameter"),
        ({"Placement.AvailabilityZone.1": "us-east-1a"}, "UnknownParameter"),
        ({"TagSpecification.ResourceType": "volume"}, "UnknownParameter"),
        ({"TagSpecification.1.ResourceType": "planet"}, "InvalidParameterValue"),
        ({"CreditSpecification.CpuCredits": "unlimited", "EbsOptimized": "yes"}, "InvalidParameterValue"),
        ({"BlockDeviceMapping.1.Ebs.VolumeSize": "8GB"}, "InvalidParameterValue"),
        ({"InstanceMarketOptions.MarketType": "gift"}, "InvalidParameterValue"),
    ],
)
def test_problem_of_form_finds_unknown_names_and_wrong_values(changes: dict[str, str], code: str | None) -> None:
    found = problem_of_form({**LAUNCH, **changes})
    assert (None if found is None else found[0]) == code


def test_problem_of_form_finds_a_missing_parameter() -> None:
    found = problem_of_form({"Action": "RunInstances", "MinCount": "1"})
    assert found == ("MissingParameter", "The request must contain the parameter MaxCount")
    assert problem_of_form({"Action": "InventedAction"}) is None


@pytest.mark.parametrize(
    ("action", "body", "code"),
    [
        ("SendMessageBatch", SEND, None),
        ("SendMessageBatch", {**SEND, "Entries": [{"Id": "0"}]}, "MissingParameter"),
        ("SendMessageBatch", {**SEND, "Entries": [{"Id": "0", "MessageBody": "a", "Delay": 1}]}, "UnknownParameter"),
        ("GetQueueAttributes", {"QueueUrl": "q", "AttributeNames": ["Depth"]}, "InvalidParameterValue"),
        ("CreateQueue", {"QueueName": "q", "Attributes": {"Colour": "red"}}, "InvalidParameterValue"),
    ],
)
def test_problem_of_json_finds_unknown_names_and_wrong_values(action: str, body: Any, code: str | None) -> None:
    found = problem_of_json("sqs", action, body)
    assert (None if found is None else found[0]) == code
