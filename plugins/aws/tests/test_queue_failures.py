"""What the errors of SQS, S3 and the price list mean."""

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
from botocore.parsers import ResponseParserError

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.failures import calling, code_of


def refusal(code: str, *, status: int = 400, short: str | None = None) -> ClientError:
    error: dict[str, Any] = {"Code": code, "Message": "as\n told."}
    if short is not None:
        error["QueryErrorCode"] = short
    return ClientError({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "SendMessage")  # type: ignore[arg-type, typeddict-item, unused-ignore]


def meaning(error: Exception) -> ProviderError:
    with pytest.raises(ProviderError) as caught, calling("sending"):
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
        refusal("WhoKnows", status=500),
        refusal("WhoKnows", status=429),
        ConnectTimeoutError(endpoint_url="http://sqs"),
        ReadTimeoutError(endpoint_url="http://sqs"),
        EndpointConnectionError(endpoint_url="http://sqs"),
    ],
    ids=code_of,
)
def test_what_may_succeed_later_is_transient(error: Exception) -> None:
    assert meaning(error).transient


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
def test_what_will_not_is_not(error: Exception) -> None:
    assert not meaning(error).transient


@pytest.mark.parametrize(
    "error",
    [
        refusal("AWS.SimpleQueueService.NonExistentQueue", short="QueueDoesNotExist"),
        refusal("QueueDoesNotExist"),
        refusal("NoSuchBucket", status=404),
    ],
    ids=code_of,
)
def test_what_is_not_there_is_not_found(error: Exception) -> None:
    assert isinstance(meaning(error), NotFoundError)


def test_the_message_is_one_line_and_the_remedy_is_near() -> None:
    assert str(meaning(refusal("AccessDenied", status=403))) == (
        "sending: AccessDenied: as told; see which permissions are needed: cloud-tasks doctor --policy"
    )
    assert "aws configure" in str(meaning(NoCredentialsError()))
    assert "cloud-tasks doctor" in str(meaning(refusal("ExpiredTokenException")))


def test_an_answer_of_somebody_in_between_is_told_and_may_pass() -> None:
    told = meaning(ResponseParserError("<html>\n log in first"))
    assert told.transient
    assert told.message == "sending: the answer is not one of AWS: <html> log in first"


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), calling("sending"):
        raise ZeroDivisionError
