"""Translation of SQS, S3 and price list errors: transient, not found, credentials, permissions or permanent.

Codes: "Common Errors" and the error sections of the Amazon SQS, Amazon S3 and AWS Price List API references. EC2 errors
are classified in `cloud_tasks_aws.compute.compute_errors`. No botocore exception leaves this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from cloud_tasks.errors import CredentialsError, ProviderError
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem, judge, matching_rule
from cloud_tasks_aws.responses import InvalidResponseError

__all__ = [
    "CREDENTIALS",
    "RULES",
    "TRANSIENT",
    "are_credentials_refused",
    "code_of",
    "is_denied",
    "is_transient_code",
    "one_line",
    "problem_of",
    "provider_error",
    "translate_errors",
]

_HINT = (
    "AWS credentials are invalid or expired, the clock is wrong, or the account has not enabled the region: "
    "run `aws sso login` or `aws configure`"
)

_SIGN_IN = "SignIn."
"""Start of the codes with which a role or the token of a login is refused, by a call that an SDK makes by itself."""
_SIGN_INS = ("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetRoleCredentials")

CREDENTIALS = (
    ErrorRule(
        kind=ErrorKind.CREDENTIALS,
        code="ExpiredToken(Exception)?|IncompleteSignature|InvalidAccessKeyId|InvalidClientTokenId|InvalidIdentityToken|"
        "InvalidSecurity.RequestHasExpired|InvalidSignatureException|InvalidToken|MissingAuthenticationToken|"
        "NotAuthorized|RequestExpired|RequestTimeTooSkewed|SignatureDoesNotMatch|TokenRefreshRequired|"
        f"UnrecognizedClientException|{_SIGN_IN}.*",
        hint=_HINT,
    ),
    # EC2 has one code for credentials and for images of other accounts.
    ErrorRule(kind=ErrorKind.CREDENTIALS, code="AuthFailure", message="credential", hint=_HINT),
)
_DENIED = ErrorRule(
    kind=ErrorKind.PERMANENT,
    code="403|AccessDenied(Exception)?|UnauthorizedOperation",
    hint="show the required permissions with: cloud-tasks doctor --policy",
)
TRANSIENT = ErrorRule(
    kind=ErrorKind.TRANSIENT,
    code="ConcurrentTagAccess|EC2ThrottledException|InternalError(Exception)?|InternalFailure|KMS.ThrottlingException|KmsThrottled|"
    "OverLimit|PriorRequestNotComplete|RequestLimitExceeded|RequestThrottled(Exception)?|RequestTimeout|"
    "ServiceUnavailable|SlowDown|Throttling(Exception)?|TooManyRequestsException|Unavailable",
)
RULES = (
    ErrorRule(kind=ErrorKind.NOT_FOUND, code="NoSuchBucket|NoSuchKey|NonExistentQueue|QueueDoesNotExist|404"),
    *CREDENTIALS,
    _DENIED,
    TRANSIENT,
    ErrorRule(
        kind=ErrorKind.TRANSIENT,
        code="PurgeQueueInProgress|QueueDeletedRecently",
        hint="SQS deletes and purges a queue within a minute: repeat the command then",
    ),
    ErrorRule(
        kind=ErrorKind.PERMANENT,
        code="KMS.*",
        hint="allow the use of the KMS key; queues of cloud-tasks use none unless the account adds one",
    ),
    ErrorRule(kind=ErrorKind.PERMANENT, code="InvalidSecurity", hint="use an https:// endpoint"),
)

_PROXY = "check for a proxy between this machine and AWS"
_LOCAL = (CredentialRetrievalError, LoginError, SSOError, TokenRetrievalError)
_MISSING = (NoCredentialsError, PartialCredentialsError)

_ENCODED = re.compile(r"Encoded authorization failure message: \S+")


@contextmanager
def translate_errors(action: str, rules: Sequence[ErrorRule] = RULES) -> Iterator[None]:
    """Translate the exceptions of calls into a `ProviderError` whose message starts with ``action``."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise provider_error(action, error, rules) from error
    except LookupError as error:
        # A field below the first level of a response.
        what = f"{error} is missing" if isinstance(error, KeyError) else "a field is missing"
        raise ProviderError(f"{action}: invalid response from AWS: {what}", transient=True, hint=_PROXY) from error


def code_of(error: BaseException) -> str:
    """Return the service's error code without its namespace, or the exception's class name."""
    if not isinstance(error, ClientError):
        return type(error).__name__
    answer = error.response.get("Error", {})
    # SQS also returns the code of its former query protocol, which is the documented one.
    code = str(answer.get("QueryErrorCode") or answer.get("Code") or "Unknown")
    return code.removeprefix("AWS.SimpleQueueService.").removeprefix("Client.").removeprefix("Server.")


def is_transient_code(code: str) -> bool:
    """Return whether the error with this code is temporary, so that a retry may succeed."""
    return TRANSIENT.matches(Problem(code=code))


def is_denied(error: BaseException | None) -> bool:
    """Return whether a botocore exception is about a missing permission."""
    return isinstance(error, ClientError) and _DENIED.matches(problem_of(error))


def are_credentials_refused(error: BaseException | None) -> bool:
    """Return whether the credentials are missing, invalid or expired, so that nothing was done."""
    if not isinstance(error, ClientError):
        return isinstance(error, (*_LOCAL, *_MISSING))
    return matching_rule(problem_of(error), CREDENTIALS) is not None


def problem_of(error: BaseException | None) -> Problem:
    """Return the problem that a service reported, or that of another exception."""
    if not isinstance(error, ClientError):
        return Problem(code=type(error).__name__, message=str(error))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = one_line(str(error.response.get("Error", {}).get("Message", "")))
    code = code_of(error)
    if error.operation_name in _SIGN_INS and code in ("AccessDenied", "ForbiddenException"):
        code = f"{_SIGN_IN}{code}"
    return Problem(code=code, message=message, status=status)


def provider_error(action: str, error: Exception, rules: Sequence[ErrorRule] = RULES) -> ProviderError:
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
        hint = _PROXY if isinstance(error, InvalidResponseError) else ""
        if isinstance(error, EndpointConnectionError):
            hint = "check the name of the region, and the network"
        return ProviderError(f"{action}: {one_line(str(error)) or code}", transient=transient, hint=hint)
    return judge(action, problem_of(error), rules)


def one_line(text: str) -> str:
    """Return a service's message as one line without a final full stop."""
    # The encoded part of an authorization failure is kilobytes long and only AWS can decode it.
    return " ".join(_ENCODED.sub("", text).split()).rstrip(".")
