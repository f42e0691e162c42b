"""Translation of SQS, S3 and price list errors: transient, not found, credentials, permissions or permanent.

Codes: "Common Errors" and the error sections of the Amazon SQS, Amazon S3 and AWS Price List API references. EC2 errors
are classified in `cloud_tasks_aws.compute.compute_errors`. No botocore exception leaves this package.
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
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError

__all__ = [
    "are_credentials_refused",
    "code_of",
    "invalid_response",
    "is_denied",
    "is_transient_code",
    "one_line",
    "provider_error",
    "translate_errors",
]

_TRANSIENT = frozenset(
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
_NOT_FOUND = frozenset({"NoSuchBucket", "NoSuchKey", "NonExistentQueue", "QueueDoesNotExist", "404"})
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "InvalidSecurity", "UnauthorizedOperation"})


_LOCAL = (CredentialRetrievalError, LoginError, SSOError, TokenRetrievalError)
_MISSING = (NoCredentialsError, PartialCredentialsError)
_HINT = "AWS credentials are invalid or expired, or the clock is wrong: run `aws sso login` or `aws configure`"

_ENCODED = re.compile(r"Encoded authorization failure message: \S+")


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Translate botocore exceptions into a `ProviderError` whose message starts with ``action``."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise provider_error(action, error) from error
    except ResponseParserError as error:
        raise invalid_response(action, error) from error


def invalid_response(action: str, error: ResponseParserError) -> ProviderError:
    """Return the error for a response that is not AWS's, such as a proxy's login page.

    `ResponseParserError` is outside botocore's exception hierarchy.
    """
    text = f"{action}: invalid response from AWS: {one_line(str(error))[:200]}"
    return ProviderError(text, transient=True, hint="check for a proxy between this machine and AWS")


def code_of(error: BaseException) -> str:
    """Return the service's error code without its namespace, or the exception's class name."""
    if not isinstance(error, ClientError):
        return type(error).__name__
    answer = error.response.get("Error", {})
    # SQS also returns the code of its former query protocol, which is the documented one.
    code = str(answer.get("QueryErrorCode") or answer.get("Code") or "Unknown")
    return code.removeprefix("AWS.SimpleQueueService.")


def is_transient_code(code: str) -> bool:
    """Return whether the error with this code is temporary, so that a retry may succeed."""
    return code in _TRANSIENT


def is_denied(error: BaseException | None) -> bool:
    """Return whether a botocore exception is about a missing permission."""
    return isinstance(error, ClientError) and code_of(error) in _DENIED


def are_credentials_refused(error: BaseException | None) -> bool:
    """Return whether the credentials are missing, invalid or expired, so that nothing was done."""
    if not isinstance(error, ClientError):
        return isinstance(error, (*_LOCAL, *_MISSING))
    # EC2 has one code for credentials and for images of other accounts.
    is_of_credentials = "credential" in str(error.response.get("Error", {}).get("Message", "")).lower()
    code = code_of(error)
    return code in _CREDENTIALS or (code == "AuthFailure" and is_of_credentials)


def provider_error(action: str, error: Exception) -> ProviderError:
    """Return the `ProviderError` for a botocore exception."""
    code = code_of(error)
    if isinstance(error, _MISSING):
        return CredentialsError(
            f"{action}: no AWS credentials found",
            hint="run `aws configure` or set AWS_PROFILE; check with: cloud-tasks doctor",
        )
    if isinstance(error, _LOCAL):
        return CredentialsError(f"{action}: {one_line(str(error)) or code}", hint=_HINT)
    if not isinstance(error, ClientError):
        transient = isinstance(error, (ConnectionError, HTTPClientError))
        return ProviderError(f"{action}: {one_line(str(error)) or code}", transient=transient)
    text = f"{action}: {code}: {one_line(str(error.response.get('Error', {}).get('Message', '')))}".rstrip(": ")
    if code in _NOT_FOUND:
        return NotFoundError(text)
    if are_credentials_refused(error):
        return CredentialsError(text, hint=_HINT)
    if code in _DENIED:
        return ProviderError(text, hint="show the required permissions with: cloud-tasks doctor --policy")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return ProviderError(text, transient=is_transient_code(code) or status >= 500 or status == 429)


def one_line(text: str) -> str:
    """Return a service's message as one line without a final full stop."""
    # The encoded part of an authorization failure is kilobytes long and only AWS can decode it.
    return " ".join(_ENCODED.sub("", text).split()).rstrip(".")
