"""Translation of SQS, S3 and price list errors."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.errors import code_of, translate_errors
from cloud_tasks_aws.responses import InvalidResponseError


def refusal(code: str, *, status: int = 400, short: str | None = None) -> ClientError:
    error: dict[str, Any] = {"Code": code, "Message": "injected\n error."}
    if short is not None:
        error["QueryErrorCode"] = short
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "SendMessage")  # type: ignore[arg-type, typeddict-item, unused-ignore]


def translate(error: Exception) -> ProviderError:
    with pytest.raises(ProviderError) as caught, translate_errors("sending"):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.message.startswith("sending: ")
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        refusal("ThrottlingException"),
        refusal("RequestThrottled", status=403),
        refusal("AWS.SimpleQueueService.OverLimit"),
        refusal("SlowDown", status=503),
        refusal("Client.RequestLimitExceeded"),
        refusal("UnknownCode", status=500),
        refusal("UnknownCode", status=429),
        ConnectTimeoutError(endpoint_url="http://sqs"),
        ReadTimeoutError(endpoint_url="http://sqs"),
        EndpointConnectionError(endpoint_url="http://sqs"),
    ],
    ids=code_of,
)
def test_translate_errors_marks_transient_errors(error: Exception) -> None:
    assert translate(error).transient


def test_translate_errors_names_the_region_where_no_address_answers() -> None:
    error = EndpointConnectionError(endpoint_url="https://sts.us-nowhere-1.amazonaws.com/")
    assert translate(error).hint == "check the name of the region, and the network"


@pytest.mark.parametrize(
    "error",
    [
        refusal("InvalidAttributeValue"),
        refusal("AccessDeniedException", status=403),
        refusal("ExpiredToken", status=403),
        NoCredentialsError(),
        ParamValidationError(report="wrong"),
        BotoCoreError(),
    ],
    ids=code_of,
)
def test_translate_errors_marks_permanent_errors(error: Exception) -> None:
    assert not translate(error).transient


@pytest.mark.parametrize(
    "error",
    [
        refusal("AWS.SimpleQueueService.NonExistentQueue", short="QueueDoesNotExist"),
        refusal("QueueDoesNotExist"),
        refusal("NoSuchBucket", status=404),
    ],
    ids=code_of,
)
def test_translate_errors_raises_not_found(error: Exception) -> None:
    assert isinstance(translate(error), NotFoundError)


def test_translated_message_is_one_line_with_hint() -> None:
    assert str(translate(refusal("AccessDenied", status=403))) == (
        "sending: AccessDenied: injected error; show the required permissions with: cloud-tasks doctor --policy"
    )
    assert "aws configure" in str(translate(NoCredentialsError()))
    assert "aws sso login" in str(translate(refusal("ExpiredTokenException")))


def test_invalid_response_is_transient() -> None:
    error = translate(InvalidResponseError(host="sqs.us-east-1.amazonaws.com", error="a web page"))
    assert error.transient
    assert error.message == "sending: invalid response from sqs.us-east-1.amazonaws.com: a web page"


@pytest.mark.parametrize(
    ("error", "problem"),
    [(KeyError("FleetId"), "'FleetId' is missing"), (IndexError("list index out of range"), "a field is missing")],
)
def test_invalid_response_names_the_missing_field_if_known(error: Exception, problem: str) -> None:
    assert translate(error).message == f"sending: invalid response from AWS: {problem}"


def test_translate_errors_passes_other_errors_through() -> None:
    with pytest.raises(ZeroDivisionError), translate_errors("sending"):
        raise ZeroDivisionError
