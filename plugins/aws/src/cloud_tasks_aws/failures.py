"""What the errors of SQS, S3 and the price list mean: passing trouble, something that is not there, or a mistake.

Codes: "Common Errors" and the error sections of the Amazon SQS, Amazon S3 and AWS Price List API references. What EC2
answers is judged in `cloud_tasks_aws.compute.failures`. No botocore exception leaves this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from cloud_tasks.errors import NotFoundError, ProviderError

__all__ = ["calling", "code_of", "is_passing", "meaning", "not_understood", "one_line"]

_PASSING = frozenset(
    {
        "EC2ThrottledException",
        "InternalError",
        "InternalErrorException",
        "InternalFailure",
        "KMS.ThrottlingException",
        "KmsThrottled",
        "OverLimit",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "Unavailable",
    }
)
_ABSENT = frozenset({"NoSuchBucket", "NoSuchKey", "NonExistentQueue", "QueueDoesNotExist", "404"})
_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "InvalidSecurity", "UnauthorizedOperation"})


_ENCODED = re.compile(r"Encoded authorization failure message: \S+")


@contextmanager
def calling(doing: str) -> Iterator[None]:
    """Turn what botocore raises inside into a `ProviderError` that begins with ``doing``."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise meaning(doing, error) from error
    except ResponseParserError as error:
        raise not_understood(doing, error) from error


def not_understood(doing: str, error: ResponseParserError) -> ProviderError:
    """Somebody in between answered: a proxy, a login page. It stands outside the SDK's tree of errors."""
    text = f"{doing}: the answer is not one of AWS: {one_line(str(error))[:200]}"
    return ProviderError(text, transient=True, hint="see whether a proxy is in between")


def code_of(error: BaseException) -> str:
    """The service's code without its name space; the exception's own name where there is none."""
    if not isinstance(error, ClientError):
        return type(error).__name__
    answer = error.response.get("Error", {})
    # SQS gives the short code apart, beside one of the older protocol.
    code = str(answer.get("QueryErrorCode") or answer.get("Code") or "Unknown")
    return code.removeprefix("AWS.SimpleQueueService.")


def is_passing(code: str) -> bool:
    """Whether the same call may succeed a moment later."""
    return code in _PASSING


def meaning(doing: str, error: Exception) -> ProviderError:
    """The error of ours that says what an error of botocore means."""
    code = code_of(error)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)):
        return ProviderError(
            f"{doing}: there are no AWS credentials",
            hint="run `aws configure` or set AWS_PROFILE; see: cloud-tasks doctor",
        )
    if not isinstance(error, ClientError):
        transient = isinstance(error, (ConnectionError, HTTPClientError))
        return ProviderError(f"{doing}: {one_line(str(error)) or code}", transient=transient)
    text = f"{doing}: {code}: {one_line(str(error.response.get('Error', {}).get('Message', '')))}".rstrip(": ")
    if code in _ABSENT:
        return NotFoundError(text)
    if code in _CREDENTIALS:
        return ProviderError(text, hint="the credentials are wrong or have expired; see: cloud-tasks doctor")
    if code in _DENIED:
        return ProviderError(text, hint="see which permissions are needed: cloud-tasks doctor --policy")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return ProviderError(text, transient=is_passing(code) or status >= 500 or status == 429)


def one_line(text: str) -> str:
    """A service's message as a part of ours."""
    # The encoded part of a denial is kilobytes that nobody can read without asking AWS.
    return " ".join(_ENCODED.sub("", text).split()).rstrip(".")
