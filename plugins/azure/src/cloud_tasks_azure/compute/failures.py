"""What an error of Resource Manager means: which launches to avoid, for how long, or whether to call again.

Invariants, each with a test:

1. No exception of the SDK leaves: each becomes a `ProviderError`, `NotFoundError` or `LaunchRefusedError`.
2. A quota is refused as far as it reaches: a family of sizes, the region's cores, or spot.
3. No address of a blob, no token and no header is in a message.

Sources: "Resolve errors for SKU not available", "Resolve errors for resource quotas", "Troubleshoot allocation failures
when you create or restart VMs", "Understand how Azure Resource Manager throttles requests", "Error codes for Azure Spot
Virtual Machines", in the Azure documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import attrs
from azure.core import exceptions as sdk

from cloud_tasks.errors import (
    CloudTasksError,
    InputError,
    LaunchRefusedError,
    NotFoundError,
    ProviderError,
    RefusalScope,
)
from cloud_tasks_azure.credentials import auth_failure

__all__ = ["Problem", "mapped", "problem_of", "refusal"]

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@attrs.frozen(kw_only=True)
class Problem:
    """One error as Resource Manager tells it, from a response or from an operation that failed."""

    code: str
    """``SkuNotAvailable``; empty when not told."""
    message: str
    status: int = 0
    """Of the response: that of an operation's state is 200."""
    retry_after: timedelta | None = None
    """What the response asked for."""


def problem_of(error: sdk.HttpResponseError) -> Problem:
    """The problem that a response told of."""
    told: Mapping[str, Any] = {}
    pause: timedelta | None = None
    if error.response is not None:
        headers: Mapping[str, str] = getattr(error.response, "headers", {})
        pause = _retry_after(headers.get("Retry-After"))
        try:
            body = json.loads(error.response.text())
            told = body.get("error") or {}
        except (ValueError, AttributeError, LookupError, TypeError, OSError):
            told = {}
    code = str(told.get("code") or "")
    message = str(told.get("message") or "")
    for detail in _details(told):
        # The outer code of a failed deployment is "Conflict" or "BadRequest"; the cause is inside.
        if detail.get("code") and code in _WRAPPERS:
            code, message = str(detail["code"]), str(detail.get("message") or message)
    return Problem(
        code=code,
        message=_line(message) or f"HTTP {error.status_code}",
        status=int(error.status_code or 0),
        retry_after=pause,
    )


_WRAPPERS = ("", "BadRequest", "Conflict", "DeploymentFailed", "ResourceDeploymentFailure", "OperationFailed")


def _details(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = told.get("details")
    return [each for each in details if isinstance(each, Mapping)] if isinstance(details, list) else []


def _retry_after(header: str | None) -> timedelta | None:
    return timedelta(seconds=int(header)) if header and header.isdigit() else None


def _line(text: str) -> str:
    return re.sub(r"https?://\S+", "", " ".join(text.split())).strip()[:400].rstrip(". ")


# The codes, by what they mean. A pattern hits the code alone, unless it is looked for in the message.

_STOCK_OUT = re.compile(
    r"(Zonal)?AllocationFailed|AllocationTimeout|OverconstrainedZonalAllocationRequest|OverconstrainedAllocationRequest"
    r"|AllocationFailedInZone|SpotCapacity.*|OSProvisioningTimedOut|ProvisioningTimeout",
    re.IGNORECASE,
)
_RATE = re.compile(
    r"TooManyRequests|SubscriptionRequestsThrottled|OperationNotAllowedRate.*|ResourceCollectionRequests"
)
_QUOTA_MESSAGE = re.compile(r"quota|Current Limit|regional cores|additional required", re.IGNORECASE)
_FAMILY = re.compile(r"(standard\w+) ?family|(\w+) family cores", re.IGNORECASE)
_SPOT_QUOTA = re.compile(r"low ?priority|spot", re.IGNORECASE)
_FORBIDDEN = re.compile(
    r"AuthorizationFailed|LinkedAuthorizationFailed|InvalidAuthenticationToken\w*|RequestDisallowedByPolicy"
    r"|SubscriptionNotFound|SubscriptionNotRegistered|MissingSubscriptionRegistration|ReadOnlyDisabledSubscription"
    r"|DisallowedProvider|ScopeLocked|MarketplacePurchaseEligibilityFailed|ResourcePurchaseValidationFailed"
)
_BUSY = re.compile(
    r"ResourceGroupBeingDeleted|AnotherOperationInProgress|InUseSubnetCannotBeDeleted|RetryableError\w*"
    r"|ConflictingConcurrentWrite\w*|OperationPreempted"
)
_MISSING = re.compile(
    r"ResourceNotFound|ResourceGroupNotFound|InvalidResourceReference|ImageNotFound|PlatformImageNotFound|GalleryImageNotFound"
    r"|NotFound|ParentResourceNotFound|SubnetNotFound"
)
_NO_IMAGE = re.compile(r"(?:Platform|Gallery)?ImageNotFound")
_UNFIT = re.compile(
    r"BadRequest\w*|InvalidParameter|PropertyChangeNotAllowed|OperationNotAllowed|.*NotSupported\w*|.*Incompatible\w*"
    r"|InvalidTemplate\w*|DiskSizeNotSupported|VMSizeDoesntSupport\w*",
    re.IGNORECASE,
)


def refusal(problem: Problem) -> CloudTasksError:
    """Return what a launch raises because of a problem: an image that is missing is bad input, the rest a refusal."""
    if _NO_IMAGE.fullmatch(problem.code):
        hint = "cloud-tasks list-images shows the images that there are"
        return InputError(f"there is no image: {problem.message}", where="run.image", hint=hint)
    scope, pause, hint = _judge(problem)
    if scope is None:
        return ProviderError(problem.message, transient=True)
    return LaunchRefusedError(
        problem.message,
        scope=scope,
        retry_after=problem.retry_after or pause,
        reason=problem.code or f"HTTP_{problem.status}",
        hint=hint,
    )


def _judge(problem: Problem) -> tuple[RefusalScope | None, timedelta, str]:
    """Scope (None: call again), time and advice. The most particular rule first."""
    code, message, status = problem.code, problem.message, problem.status
    if _RATE.search(code) or status == 429:
        return RefusalScope.ACCOUNT, _MINUTE, ""
    if _BUSY.fullmatch(code):
        return None, timedelta(0), ""
    if _STOCK_OUT.fullmatch(code):
        return RefusalScope.OFFER, 10 * _MINUTE, ""
    if code == "SkuNotAvailable":
        return _not_available(message)
    if code == "LocationNotAvailableForResourceType" or "not a valid location" in message.lower():
        return RefusalScope.REGION, _DAY, ""
    if code in ("AvailabilityZoneNotSupported", "InvalidAvailabilityZone"):
        return RefusalScope.ZONE, _DAY, "cloud-tasks list-regions --zones shows the zones that there are"
    if "QuotaExceeded" in code or (code == "OperationNotAllowed" and _QUOTA_MESSAGE.search(message)):
        return _quota(message)
    if _FORBIDDEN.fullmatch(code) or status in (401, 403):
        return RefusalScope.ACCOUNT, _HOUR, _permission_advice(code)
    if status >= 500:
        return None, timedelta(0), ""
    return _judge_invalid(problem)


def _not_available(message: str) -> tuple[RefusalScope, timedelta, str]:
    """A size that is short of machines now, or that the subscription may not have: the message tells which."""
    if "capacity" in message.lower():
        return RefusalScope.OFFER, 10 * _MINUTE, ""
    return RefusalScope.INSTANCE_TYPE, _HOUR, "exclude the type by instance_types, or choose another region"


def _quota(message: str) -> tuple[RefusalScope, timedelta, str]:
    advice = "ask for more at Azure portal > Quotas, or wait until some is free"
    if _SPOT_QUOTA.search(message):
        # One figure for all spot cores of a region; a smaller size of whatever family may still fit.
        return RefusalScope.REGION, 10 * _MINUTE, advice
    if _FAMILY.search(message):
        return RefusalScope.INSTANCE_TYPE, 10 * _MINUTE, advice
    return RefusalScope.REGION, 10 * _MINUTE, advice


def _permission_advice(code: str) -> str:
    if "Registration" in code or "Registered" in code:
        return "run: az provider register --namespace Microsoft.Compute (and Microsoft.Network)"
    if "Policy" in code:
        return "a policy of the organisation forbids it: ask its administrator, or see the azure settings"
    if "Marketplace" in code or "Purchase" in code:
        return "accept the image's terms: az vm image terms accept --urn URN"
    if "Token" in code:
        return "run: az login"
    return "see the roles that are needed: cloud-tasks doctor --policy"


def _judge_invalid(problem: Problem) -> tuple[RefusalScope | None, timedelta, str]:
    """A request that is wrong for this size, or for all."""
    code, text = problem.code, problem.message.lower()
    if "vmsize" in text or "vm size" in text or "hypervisor generation" in text or "architecture" in text:
        return RefusalScope.INSTANCE_TYPE, _DAY, "choose another image, or exclude the type by instance_types"
    if "zone" in text and _UNFIT.search(code):
        return RefusalScope.OFFER, _DAY, ""
    if _MISSING.fullmatch(code) or problem.status in (400, 404):
        # An image, network, identity or setting that is wrong spoils every launch.
        return RefusalScope.ACCOUNT, _HOUR, "see the azure settings and `image`"
    if _UNFIT.fullmatch(code):
        return RefusalScope.INSTANCE_TYPE, _HOUR, ""
    return RefusalScope.OFFER, 5 * _MINUTE, ""


@contextmanager
def mapped(what: str, *, launching: bool = False) -> Iterator[None]:
    """Turn what the SDK raises into this system's errors.

    Args:
        what: What was attempted, for the message: ``list machines``.
        launching: Whether a refusal of it is a refused launch.
    """
    try:
        yield
    except sdk.ClientAuthenticationError as error:
        if error.response is not None and problem_of(error).code in ("AuthorizationFailed",):
            raise _plain(what, problem_of(error)) from error
        raise auth_failure(error) from error
    except sdk.ResourceNotFoundError as error:
        if launching:
            raise refusal(problem_of(error)) from error
        raise NotFoundError(f"cannot {what}: {problem_of(error).message}") from error
    except sdk.HttpResponseError as error:
        problem = problem_of(error)
        if launching:
            raise refusal(problem) from error
        raise _plain(what, problem) from error
    except (sdk.AzureError, ConnectionError, TimeoutError) as error:
        # A lost connection's text quotes addresses; its kind is enough.
        raise ProviderError(f"cannot {what}: {type(error).__name__}", transient=True) from error


def _plain(what: str, problem: Problem) -> ProviderError:
    limited = bool(_RATE.search(problem.code)) or problem.status == 429
    transient = limited or problem.status >= 500 or problem.status == 408 or bool(_BUSY.fullmatch(problem.code))
    hint = _permission_advice(problem.code) if problem.status in (401, 403) and not limited else ""
    return ProviderError(f"cannot {what}: {problem.message}", transient=transient, hint=hint)
