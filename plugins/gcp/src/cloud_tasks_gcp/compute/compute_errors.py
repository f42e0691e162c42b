"""Classification of Compute Engine errors: which launches to avoid, for how long, and whether to retry.

Invariants, each with a test:

1. No SDK exception leaves this package: each becomes a `ProviderError`, `NotFoundError` or `LaunchRefusedError`.
2. A failed operation never raises a plain transient error: a request with the same id returns the same failed
   operation. The launch is refused, and the next one has a new token.
3. The scope of a quota error is the reach of its metric: a machine series, a region, or the account.

Sources in the Compute Engine documentation: "Resource errors" (stock-outs), "Allocation quotas" and "API rate limits"
(quota metrics and their scopes, reasons), "Troubleshooting VM creation", and the operations resource's error codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import attrs
import google.auth.exceptions
import requests
from google.api_core import exceptions as api

from cloud_tasks.errors import (
    CloudTasksError,
    CredentialsError,
    LaunchRefusedError,
    NotFoundError,
    ProviderError,
    RefusalScope,
)

__all__ = ["ApiProblem", "after_launch_request", "is_transient", "problem_of", "refusal", "translate_errors"]

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@attrs.frozen(kw_only=True)
class ApiProblem:
    """An error reported by the API, in a response or by an operation."""

    code: str
    """Operation error code or response reason: ``QUOTA_EXCEEDED``, ``quotaExceeded``; empty when not reported."""
    message: str
    status: int = 0
    """HTTP status of the response; 0 for an operation's error."""
    metric: str = ""
    """Short name of the exceeded quota metric: ``N2_CPUS``; empty for other errors."""
    regional: bool = True
    """Whether the exceeded quota is regional."""


_STOCK_OUT = re.compile(
    r"RESOURCE_POOL_EXHAUSTED|STOCKOUT|does not have enough resources|instance is currently unavailable"
)
_QUOTA = re.compile(r"QUOTA_?EXCEEDED|LIMITEXCEEDED", re.IGNORECASE)
_RATE = re.compile(r"RATE_?LIMIT_?EXCEEDED|CONCURRENT_OPERATIONS|OPERATION_RATE", re.IGNORECASE)
_FORBIDDEN = re.compile(r"PERMISSION|FORBIDDEN|ACCESS_?NOT_?CONFIGURED|SERVICE_?DISABLED|BILLING", re.IGNORECASE)
_UNSUPPORTED = re.compile(r"UNSUPPORTED_OPERATION|INVALID_USAGE|BAD_DISK|NOT_SUPPORTED", re.IGNORECASE)
_MESSAGE_QUOTA = re.compile(r"Quota '(?P<metric>[A-Z0-9_a-z./-]+)' exceeded")
_FAMILY_QUOTA = re.compile(r"(CPUS|GPUS?|VM_FAMILY|GPU_FAMILY|LOCAL_SSD\w*)$")


def problem_of(error: api.GoogleAPICallError) -> ApiProblem:
    """Return the problem reported by an error response."""
    reasons = [str(each.get("reason", "")) for each in error.errors or () if isinstance(each, Mapping)]
    # The SDK prefixes the API's message with method and address.
    message = re.sub(r"^(GET|POST|PUT|PATCH|DELETE) https?://\S+: ", "", str(error.message or ""))
    info = error.reason or ""
    return _with_quota(
        ApiProblem(code=info or (reasons[0] if reasons else ""), message=_line(message), status=int(error.code or 0))
    )


def problems_of_operation(errors: Sequence[Any]) -> tuple[ApiProblem, ...]:
    """Return the problems of an operation's ``error.errors``."""
    return tuple(_with_quota(ApiProblem(code=each.code, message=_line(each.message)), each) for each in errors)


def _with_quota(problem: ApiProblem, error: Any = None) -> ApiProblem:
    details = getattr(error, "error_details", None) or ()
    for detail in details:
        info = detail.quota_info
        if info.metric_name or info.limit_name:
            metric = info.limit_name.removesuffix("-per-project-region").removesuffix("-per-project")
            metric = metric.replace("-", "_").upper() or info.metric_name
            return attrs.evolve(problem, metric=metric, regional="region" in dict(info.dimensions))
    match = _MESSAGE_QUOTA.search(problem.message)
    if match is None:
        return problem
    return attrs.evolve(problem, metric=match["metric"].upper(), regional="globally" not in problem.message)


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def refusal(problem: ApiProblem) -> CloudTasksError:
    """Return the error that a launch raises for a problem."""
    scope, pause, hint = _judge(problem)
    if scope is None:
        return ProviderError(problem.message or f"HTTP {problem.status}", transient=True)
    return LaunchRefusedError(
        problem.message or problem.code or f"HTTP {problem.status}",
        scope=scope,
        retry_after=pause,
        reason=problem.code or f"HTTP_{problem.status}",
        hint=hint,
    )


def _judge(problem: ApiProblem) -> tuple[RefusalScope | None, timedelta, str]:
    """Return scope (None for a transient error), retry delay and advice. The most specific rule comes first."""
    code, status = problem.code, problem.status
    if _STOCK_OUT.search(code) or _STOCK_OUT.search(problem.message):
        regional_stock_out = code.startswith("REGION_")
        return (RefusalScope.INSTANCE_TYPE if regional_stock_out else RefusalScope.OFFER), 10 * _MINUTE, ""
    if _RATE.search(code) or status == 429:
        return RefusalScope.ACCOUNT, timedelta(seconds=30), ""
    if _QUOTA.search(code) or problem.metric:
        quota = f"quota of {problem.metric}" if problem.metric else "quota"
        advice = f"request a higher {quota} at IAM & Admin > Quotas, or wait for running instances to finish"
        return _quota_scope(problem), 10 * _MINUTE, advice
    if _FORBIDDEN.search(code) or status in (401, 403):
        return RefusalScope.ACCOUNT, _HOUR, _permission_advice(problem)
    if status == 412 or code == "CONDITION_NOT_MET":
        return (
            RefusalScope.ACCOUNT,
            _HOUR,
            "an organization policy denies the launch: ask its administrator, or change the gcp settings",
        )
    if _UNSUPPORTED.search(code):
        return RefusalScope.INSTANCE_TYPE, _DAY, "exclude the type with instance_types, or choose other boot_disk_types"
    if status >= 500:
        return None, timedelta(0), ""
    return _judge_invalid(problem)


def _quota_scope(problem: ApiProblem) -> RefusalScope:
    if problem.metric.startswith("PREEMPTIBLE_CPUS"):
        return RefusalScope.REGION
    if not problem.regional or "ALL_REGIONS" in problem.metric:
        return RefusalScope.ACCOUNT
    # Other series have separate quotas, and a smaller instance type of this series may still fit.
    return RefusalScope.INSTANCE_TYPE if _FAMILY_QUOTA.search(problem.metric) else RefusalScope.REGION


def _permission_advice(problem: ApiProblem) -> str:
    text = f"{problem.code} {problem.message}".lower()
    if "has not been used" in text or "disabled" in text or "accessnotconfigured" in text:
        return "run: gcloud services enable compute.googleapis.com"
    if "billing" in text:
        return "enable billing for the project"
    if "actas" in text or "service account" in text or "serviceaccount" in text:
        return "grant roles/iam.serviceAccountUser on the instances' service account"
    return "grant roles/compute.instanceAdmin.v1 in the project; see: cloud-tasks doctor"


def _judge_invalid(problem: ApiProblem) -> tuple[RefusalScope | None, timedelta, str]:
    """Classify an invalid request, or an operation that failed without a cause."""
    text = problem.message.lower()
    if problem.status == 0 and problem.code in ("", "INTERNAL_ERROR", "UNKNOWN", "RESOURCE_NOT_READY"):
        return RefusalScope.OFFER, 2 * _MINUTE, ""
    if "machinetype" in text or "machine type" in text:
        return RefusalScope.OFFER, _DAY, ""
    if "disktype" in text or "disk type" in text or "not compatible" in text or "accelerator" in text:
        return RefusalScope.INSTANCE_TYPE, _DAY, "choose other boot_disk_types, or exclude the type with instance_types"
    if "unknown zone" in text or re.search(r"'(projects/[^/']+/)?zones/[^/']+' was not found", problem.message):
        return RefusalScope.ZONE, _DAY, ""
    if problem.status in (400, 404) or problem.code.startswith(("INVALID", "RESOURCE_NOT_FOUND", "NOT_FOUND")):
        # A missing image, network, service account or label fails every launch.
        return RefusalScope.ACCOUNT, _HOUR, "check the gcp settings and run.image"
    return RefusalScope.OFFER, 5 * _MINUTE, ""


_TRANSIENT_ERRORS = (
    api.TooManyRequests,
    api.InternalServerError,
    api.BadGateway,
    api.ServiceUnavailable,
    api.GatewayTimeout,
    requests.ConnectionError,
    requests.Timeout,
)


def is_transient(error: BaseException) -> bool:
    """Return whether a read-only call may be retried at once: rate limit, server error or lost connection."""
    limited = isinstance(error, api.Forbidden) and _RATE.search(problem_of(error).code) is not None
    return limited or isinstance(error, _TRANSIENT_ERRORS)


@contextmanager
def translate_errors(what: str, *, launching: bool = False) -> Iterator[None]:
    """Translate SDK exceptions into `ProviderError`, `NotFoundError` or `LaunchRefusedError`.

    Args:
        what: Attempted action, for the message: ``list instances``.
        launching: Whether the action is a launch, so that a refusal becomes `LaunchRefusedError`.
    """
    try:
        yield
    except api.NotFound as error:
        if launching:
            raise refusal(problem_of(error)) from error
        raise NotFoundError(f"cannot {what}: {problem_of(error).message}") from error
    except api.GoogleAPICallError as error:
        problem = problem_of(error)
        if problem.status == HTTPStatus.UNAUTHORIZED:
            raise _refused_credentials(what, problem.message) from error
        if launching:
            raise refusal(problem) from error
        raise _plain(what, problem) from error
    except api.RetryError as error:
        reason = (
            problem_of(error.cause).message if isinstance(error.cause, api.GoogleAPICallError) else "no answer in time"
        )
        raise ProviderError(f"cannot {what}: {reason}", transient=True) from error
    except google.auth.exceptions.TransportError as error:
        raise ProviderError(f"cannot {what}: the token server cannot be reached", transient=True) from error
    except google.auth.exceptions.GoogleAuthError as error:
        # The exception text may quote the token server's answer.
        raise _refused_credentials(what, type(error).__name__) from error
    except (requests.RequestException, api.GoogleAPIError, ConnectionError, TimeoutError) as error:
        raise ProviderError(f"cannot {what}: {type(error).__name__}", transient=True) from error


@contextmanager
def after_launch_request() -> Iterator[None]:
    """Translate `CredentialsError` into a transient error: the instance may have been started."""
    try:
        yield
    except CredentialsError as error:
        raise ProviderError(error.message, transient=True, hint=error.hint) from error


def _refused_credentials(what: str, reason: str) -> CredentialsError:
    hint = "run: gcloud auth application-default login"
    return CredentialsError(f"cannot {what}: the credentials were refused ({reason})", hint=hint)


def _plain(what: str, problem: ApiProblem) -> ProviderError:
    limited = bool(_RATE.search(problem.code)) or problem.status == 429
    transient = limited or problem.status >= 500 or problem.status == 408
    hint = _permission_advice(problem) if problem.status in (401, 403) and not limited else ""
    return ProviderError(f"cannot {what}: {problem.message or problem.code}", transient=transient, hint=hint)
