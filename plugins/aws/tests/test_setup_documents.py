"""Comparison of IAM policy documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloud_tasks_aws.setup.documents import covers, merged, union

SEND = {
    "Sid": "Send",
    "Effect": "Allow",
    "Action": ["sqs:SendMessage", "sqs:GetQueueUrl"],
    "Resource": "arn:aws:sqs:*:*:x*",
}


def document(*statements: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.mark.parametrize(
    ("change", "is_covered"),
    [
        ({}, True),
        ({"Sid": "Other"}, True),
        ({"Action": ["sqs:GetQueueUrl", "SQS:sendmessage"], "Resource": ["arn:aws:sqs:*:*:x*"]}, True),
        ({"Action": "sqs:*"}, True),
        ({"Action": "*", "Resource": "*"}, True),
        ({"Resource": "arn:aws:sqs:*:*:*"}, True),
        ({"Resource": "arn:aws:sqs:*:*:x1*"}, False),
        ({"Resource": "arn:aws:sqs:us-east-1:*:x*"}, False),
        ({"Resource": "arn:aws:sqs:?:*:x*"}, False),
        ({"Action": "sqs:SendMessage"}, False),
        ({"Effect": "Deny"}, False),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, False),
        ({"Action": None, "NotAction": "sqs:DeleteQueue"}, False),
    ],
)
def test_covers_compares_what_a_document_allows(change: dict[str, Any], is_covered: bool) -> None:
    assert covers(document({**SEND, **change}), document(SEND)) is is_covered


def test_covers_reads_one_statement_and_one_value_as_a_list() -> None:
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "b"}
    found = {
        **deny,
        "Principal": {"AWS": ["*"]},
        "Action": ["s3:*"],
        "Condition": {"Bool": {"AWS:securetransport": [False]}},
    }
    wanted = {**deny, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    assert covers({"Statement": found}, {"Statement": wanted})
    assert not covers({"Statement": found}, {"Statement": {**wanted, "Principal": {"Service": "ec2.amazonaws.com"}}})
    assert not covers({}, {"Statement": wanted})
    assert covers({}, {})


def test_merged_keeps_statements_also_those_of_the_same_name() -> None:
    other = {"Sid": "Other", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    old = {**SEND, "Action": "sqs:SendMessage"}
    found = json.loads(merged(document(other, old), document(SEND)))
    assert found == document(other, old, {key: value for key, value in SEND.items() if key != "Sid"})
    assert json.loads(merged(document(other), document(SEND))) == document(other, SEND)
    assert covers(found, document(SEND))


def test_union_has_the_statements_of_all_documents() -> None:
    assert union([document(SEND), {"Statement": SEND}, {}]) == document(SEND, SEND)
