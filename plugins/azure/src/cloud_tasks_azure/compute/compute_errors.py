"""Translation of Resource Manager errors: refusals with scope and delay, transient errors, permanent ones.

Invariants, each with a test:

1. No SDK exception leaves: each becomes a `ProviderError`, `NotFoundError` or `LaunchRefusedError`.
2. A quota refusal has the scope of its quota: a family of sizes, the region's cores, or spot.
3. Blob URLs, tokens and headers never appear in a message.

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
from http import HTTPStatus
from typing import Any

import attrs
from azure.core import exceptions as sdk

from cloud_tasks.errors import (
    CloudTasksError,
    CredentialsError,
    InputError,
    LaunchRefusedError,
    NotFoundError,
    ProviderError,
    RefusalScope,
)
from cloud_tasks_azure.credentials import LOGIN, credential_error

__all__ = ["ApiProblem", "after_launch_request", "problem_of", "refusal", "translate_errors"]

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@attrs.frozen(kw_only=True)
class ApiProblem:
    """One error of Resource Manager, from a response or a failed operation."""

    code: str
    """``SkuNotAvailable``; empty if missing."""
    message: str
    status: int = 0
    """HTTP status of the response; 200 for the state of an operation."""
    retry_after: timedelta | None = None
    """``Retry-After`` of the response."""


def problem_of(error: sdk.HttpResponseError) -> ApiProblem:
    """Return the details of an HTTP error."""
    content: Mapping[str, Any] = {}
    delay: timedelta | None = None
    if error.response is not None:
        headers: Mapping[str, str] = getattr(error.response, "headers", {})
        delay = _retry_after(headers.get("Retry-After"))
        try:
            body = json.loads(error.response.text())
            content = body.get("error") or {}
        except (ValueError, AttributeError, LookupError, TypeError, OSError):
            content = {}
    code = str(content.get("code") or "")
    message = str(content.get("message") or "")
    for detail in _details(content):
        # The outer code of a failed deployment is "Conflict" or "BadRequest"; the cause is in the details.
        if detail.get("code") and code in _WRAPPERS:
            code, message = str(detail["code"]), str(detail.get("message") or message)
    return ApiProblem(
        code=code,
        message=_line(message) or f"HTTP {error.status_code}",
        status=int(error.status_code or 0),
        retry_after=delay,
    )


_WRAPPERS = ("", "BadRequest", "Conflict", "DeploymentFailed", "ResourceDeploymentFailure", "OperationFailed")


def _details(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = content.get("details")
    return [each for each in details if isinstance(each, Mapping)] if isinstance(details, list) else []


def _retry_after(header: str | None) -> timedelta | None:
    return timedelta(seconds=int(header)) if header and header.isdigit() else None


def _line(text: str) -> str:
    return re.sub(r"https?://\S+", "", " ".join(text.split())).strip()[:400].rstrip(". ")


# Error codes by meaning. Patterns match the code, those named "…MESSAGE", FAMILY and SPOT the message.

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


def refusal(problem: ApiProblem) -> CloudTasksError:
    """Return the error of a failed launch: `InputError` (missing image), `LaunchRefusedError`, or a transient error."""
    if _NO_IMAGE.fullmatch(problem.code):
        hint = "cloud-tasks list-images shows the available images"
        return InputError(f"image not found: {problem.message}", where="run.image", hint=hint)
    scope, delay, hint = _classify(problem)
    if scope is None:
        return ProviderError(problem.message, transient=True)
    return LaunchRefusedError(
        problem.message,
        scope=scope,
        retry_after=problem.retry_after or delay,
        reason=problem.code or f"HTTP_{problem.status}",
        hint=hint,
    )


def _classify(problem: ApiProblem) -> tuple[RefusalScope | None, timedelta, str]:
    """Return scope (None: transient), delay and hint; specific rules first."""
    code, message, status = problem.code, problem.message, problem.status
    if _RATE.search(code) or status == 429:
        return RefusalScope.ACCOUNT, _MINUTE, ""
    if _BUSY.fullmatch(code):
        return None, timedelta(0), ""
    if _STOCK_OUT.fullmatch(code):
        return RefusalScope.OFFER, 10 * _MINUTE, ""
    if code == "SpotPriceGreaterThanProvidedMaxPrice":
        return (
            RefusalScope.OFFER,
            10 * _MINUTE,
            "the spot price is above the list price; use another size or region, or on-demand",
        )
    if code == "SkuNotAvailable":
        return _not_available(message)
    if code == "LocationNotAvailableForResourceType" or "not a valid location" in message.lower():
        return RefusalScope.REGION, _DAY, ""
    if code in ("AvailabilityZoneNotSupported", "InvalidAvailabilityZone"):
        return RefusalScope.ZONE, _DAY, "list zones with: cloud-tasks list-regions --zones"
    if "QuotaExceeded" in code or (code == "OperationNotAllowed" and _QUOTA_MESSAGE.search(message)):
        return _quota(message)
    if _FORBIDDEN.fullmatch(code) or status in (401, 403):
        return RefusalScope.ACCOUNT, _HOUR, _permission_advice(code)
    if status >= 500:
        return None, timedelta(0), ""
    return _classify_invalid(problem)


def _not_available(message: str) -> tuple[RefusalScope, timedelta, str]:
    """Return the refusal of a size without capacity, or not available to the subscription: the message differs."""
    if "capacity" in message.lower():
        return RefusalScope.OFFER, 10 * _MINUTE, ""
    return RefusalScope.INSTANCE_TYPE, _HOUR, "exclude the type with run.instance_types, or choose another region"


def _quota(message: str) -> tuple[RefusalScope, timedelta, str]:
    advice = "request a higher quota in the Azure portal > Quotas, or wait until some is free"
    if _SPOT_QUOTA.search(message):
        # One quota for all spot cores of a region: a smaller size of any family may still fit.
        return RefusalScope.REGION, 10 * _MINUTE, advice
    if _FAMILY.search(message):
        return RefusalScope.INSTANCE_TYPE, 10 * _MINUTE, advice
    return RefusalScope.REGION, 10 * _MINUTE, advice


def _permission_advice(code: str) -> str:
    if "Registration" in code or "Registered" in code:
        return "run: az provider register --namespace Microsoft.Compute (and Microsoft.Network)"
    if "Policy" in code:
        return "a policy of the organization denies it: ask its administrator, or change the azure settings"
    if "Marketplace" in code or "ProvisioningModel" in code:
        return "accept the image's terms: az vm image terms accept --urn URN"
    if "Token" in code:
        return "run: az login"
    return "show the required roles with: cloud-tasks doctor --policy"


def _classify_invalid(problem: ApiProblem) -> tuple[RefusalScope | None, timedelta, str]:
    """Return the refusal of a request that is invalid for this size, or for every size."""
    code, text = problem.code, problem.message.lower()
    if "vmsize" in text or "vm size" in text or "hypervisor generation" in text or "architecture" in text:
        return RefusalScope.INSTANCE_TYPE, _DAY, "choose another image, or exclude the type with run.instance_types"
    if "zone" in text and _UNFIT.search(code):
        return RefusalScope.OFFER, _DAY, ""
    if _MISSING.fullmatch(code) or problem.status in (400, 404):
        # An invalid image, network, identity or setting fails every launch.
        return RefusalScope.ACCOUNT, _HOUR, "check run.image and the azure settings"
    if _UNFIT.fullmatch(code):
        return RefusalScope.INSTANCE_TYPE, _HOUR, ""
    return RefusalScope.OFFER, 5 * _MINUTE, ""


@contextmanager
def translate_errors(action: str, *, launching: bool = False) -> Iterator[None]:
    """Translate SDK exceptions.

    Args:
        action: Action, for the message: ``list instances``.
        launching: Whether a refusal becomes a `LaunchRefusedError`.
    """
    try:
        yield
    except sdk.ClientAuthenticationError as error:
        if error.response is not None and problem_of(error).code in ("AuthorizationFailed",):
            raise _provider_error(action, problem_of(error)) from error
        raise credential_error(error) from error
    except sdk.ResourceNotFoundError as error:
        if launching:
            raise refusal(problem_of(error)) from error
        raise NotFoundError(f"cannot {action}: {problem_of(error).message}") from error
    except sdk.HttpResponseError as error:
        problem = problem_of(error)
        if problem.status == HTTPStatus.UNAUTHORIZED:
            raise CredentialsError(f"cannot {action}: {problem.message}", hint=LOGIN) from error
        if launching:
            raise refusal(problem) from error
        raise _provider_error(action, problem) from error
    except (sdk.AzureError, ConnectionError, TimeoutError) as error:
        # The message of a connection error contains URLs; its type is enough.
        raise ProviderError(f"cannot {action}: {type(error).__name__}", transient=True) from error


@contextmanager
def after_launch_request() -> Iterator[None]:
    """Translate errors of the credentials into a transient one: the instance may have been started."""
    try:
        yield
    except (sdk.ClientAuthenticationError, CredentialsError) as error:
        refused = error if isinstance(error, CredentialsError) else credential_error(error)
        raise ProviderError(refused.message, transient=True, hint=refused.hint) from error


def _provider_error(action: str, problem: ApiProblem) -> ProviderError:
    limited = bool(_RATE.search(problem.code)) or problem.status == 429
    transient = limited or problem.status >= 500 or problem.status == 408 or bool(_BUSY.fullmatch(problem.code))
    hint = _permission_advice(problem.code) if problem.status in (401, 403) and not limited else ""
    return ProviderError(f"cannot {action}: {problem.message}", transient=transient, hint=hint)
