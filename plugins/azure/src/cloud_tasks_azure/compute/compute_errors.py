"""Errors of Resource Manager as tables: what each code means, for which launches, for how long, and the remedy.

Sources: "Troubleshoot common Azure deployment errors", "Error codes for Azure Spot Virtual Machines", "Troubleshoot
allocation failures", "Resolve errors for SKU not available", "Resolve errors for resource quotas" and "Understand how
Azure Resource Manager throttles requests" in the Azure documentation.

Invariants, each with a test:

1. No exception of the SDK leaves: each becomes a `ProviderError`, or for a missing image an `InputError`.
2. Each documented code that a launch can meet has one rule. The code decides before the HTTP status.
3. Only throttling lasts as long as Azure's ``Retry-After`` says.
4. Blob URLs, tokens and headers never appear in a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import attrs
from azure.core import exceptions as sdk

from cloud_tasks.errors import CloudTasksError, CredentialsError, InputError, ProviderError, RefusalScope
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem, judge, matching_rule, refused
from cloud_tasks_azure.credentials import LOGIN, credential_error

__all__ = ["LAUNCH_RULES", "after_launch_request", "problem_of", "refusal", "translate_errors"]

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_ACCOUNT, _REGION, _ZONE = RefusalScope.ACCOUNT, RefusalScope.REGION, RefusalScope.ZONE
_TYPE, _OFFER = RefusalScope.INSTANCE_TYPE, RefusalScope.OFFER

_WRAPPERS = re.compile(
    r"|BadRequest|Conflict|DeploymentFailed|ResourceDeploymentFailure|OperationFailed|RetryableError\w*"
    r"|InvalidTemplateDeployment|TooManyRequests"
)
"""Codes whose cause is in the details. Microsoft.Network answers 429 RetryableError for a conflict."""

_ROLES = "show the required roles with: cloud-tasks doctor --policy"
_JOIN = f"the role is missing for the subnet, security group, image or identity of the azure settings; {_ROLES}"
_QUOTA = "request a higher quota in the Azure portal > Quotas, or wait until some is free"
_ADDRESSES = "request a higher quota of public addresses, or set azure.public_address: false"
_SETTINGS = "check run.image and the azure settings"
_EXCLUDE = "exclude the type with run.instance_types, or choose another region"
_IMAGE = "choose another image, or exclude the type with run.instance_types"
_BOOT = "the image did not finish its start: check that it is generalized and has cloud-init"
_SIZE = "set run.total_boot_disk_size to the size of the image"
_TERMS = "accept the image's terms: az vm image terms accept --urn URN"
_REGISTER = "run: az provider register --namespace Microsoft.Compute (and Microsoft.Network)"
_FEATURE = "run: az feature register, with the feature of the message"
_POLICY = "a policy of the organization denies it: ask its administrator, or set what it demands, such as azure.tags"
_FREE = "free and student subscriptions have few regions: set run.region to another, or upgrade the subscription"
_BILLS = "the subscription is disabled: see its state and its bills in the Azure portal"
_ACCOUNTS = "run: az account list --output table, then set azure.subscription_id"
_LOCKS = "the group or subscription is locked: az lock list"
_ON_DEMAND = "the spot price is above the booked price and its margin; use another size or region, or on-demand"
_NO_SPOT = "this kind of subscription has no spot instances: set run.use_spot: false"
_REGIONS = "list regions with: cloud-tasks list-regions --provider azure"
_ZONES = "list zones with: cloud-tasks list-regions --zones --provider azure"
_SUBNET = "use a larger subnet (azure.subnet)"

_RULES: tuple[ErrorRule, ...] = (
    ErrorRule(
        kind=ErrorKind.CREDENTIALS,
        code=r"ExpiredAuthenticationToken|InvalidAuthenticationToken\w*|AuthenticationFailed\w*|HTTP_401",
        hint=LOGIN,
    ),
    # Passes by itself, whatever the status: 409, 429, or 400 while a group is deleted.
    ErrorRule(
        kind=ErrorKind.TRANSIENT,
        code=r"RetryableError\w*|AnotherOperationInProgress|ConflictingConcurrentWrite\w*|OperationPreempted"
        r"|ResourceGroupBeingDeleted|InUse\w*CannotBeDeleted|DeploymentActiveAndUneditable"
        r"|ReferencedResourceNotProvisioned|NicReservedForAnotherVm|Canceled|\w*Internal\w*Error"
        r"|ServiceUnavailable|ServerTimeout|GatewayTimeout",
    ),
)
"""Errors that mean the same for every call."""

_Row = tuple[str, str, RefusalScope, timedelta, str]
"""Patterns of code and message, scope, time and remedy of a refused launch."""

_FORBIDDEN: tuple[_Row, ...] = (
    ("RequestDisallowedByPolicy|PolicyViolation", "", _ACCOUNT, _HOUR, _POLICY),
    ("RequestDisallowedByAzure", "", _REGION, _DAY, _FREE),
    ("SubscriptionNotRegisteredForFeature", "", _ACCOUNT, _HOUR, _FEATURE),
    (r"\w*SubscriptionRegistration\w*|SubscriptionNotRegistered", "", _ACCOUNT, _HOUR, _REGISTER),
    ("NoRegisteredProviderFound|DisallowedProvider", "", _ACCOUNT, _HOUR, _REGISTER),
    (r"\w*DisabledSubscription|SubscriptionDisabled", "", _ACCOUNT, _HOUR, _BILLS),
    ("SubscriptionNotFound|InvalidSubscriptionId|DisallowedOperation", "", _ACCOUNT, _HOUR, _ACCOUNTS),
    ("ScopeLocked", "", _ACCOUNT, _HOUR, _LOCKS),
    (r"\w*Marketplace\w*|ResourcePurchase\w*", "", _ACCOUNT, _HOUR, _TERMS),
    ("LinkedAuthorizationFailed|LinkedAccessCheckFailed", "", _ACCOUNT, _HOUR, _JOIN),
    ("AuthorizationFailed|Forbidden|HTTP_403", "", _ACCOUNT, _HOUR, _ROLES),
)
_THROTTLED = r"TooManyRequests|\w*RequestsThrottled|OperationNotAllowedRate\w*|ResourceCollectionRequests\w*|HTTP_429"
_STOCK_OUT = r"(Zonal)?AllocationFailed\w*|AllocationTimeout|Overconstrained(Zonal)?AllocationRequest|SpotCapacity\w*"
_UNFIT = r"PropertyChangeNotAllowed|OperationNotAllowed|\w*NotSupported\w*|\w*Incompatible\w*|VMSizeDoesntSupport\w*"
_WRONG = (
    r"Invalid\w*|Reserved\w*|\w*NotFound|\w*NotInSameVnet|PrivateIP\w*|BadRequest|HTTP_400|HTTP_404|FailedIdentity\w*"
)
_QUOTAS = r"OperationNotAllowed|\w*QuotaExceeded\w*"
_LIMITS = r"\w*(QuotaExceeded|CountLimitReached|LimitExceeded)\w*"
_OVER = "quota|current limit|regional cores|additional required"

_LAUNCH: tuple[_Row, ...] = (
    # Capacity. "The requested tier for resource … is currently not available" is the text of spot capacity.
    (_STOCK_OUT, "", _OFFER, 10 * _MINUTE, ""),
    ("SkuNotAvailable", "capacity|requested tier", _OFFER, 10 * _MINUTE, ""),
    ("SkuNotAvailable", "", _TYPE, _HOUR, _EXCLUDE),
    ("SpotPriceGreaterThanProvidedMaxPrice", "", _OFFER, 10 * _MINUTE, _ON_DEMAND),
    (r"AzureSpotIsNotSupportedForThisVMSize|MaxPriceValueInvalid", "", _OFFER, _DAY, ""),
    ("AzureSpotFeatureNotEnabledForSubscription", "", _REGION, _DAY, _NO_SPOT),
    (r"\w*(Provisioning|VMStart)TimedOut|\w*ProvisioningTimeout|OSProvisioning\w*", "", _OFFER, 10 * _MINUTE, _BOOT),
    # Place.
    (r"LocationNotAvailable\w*|RegionDoesNotAllowProvisioning", "", _REGION, _DAY, _REGIONS),
    ("MissingRegistrationForLocation|InvalidLocation|LocationRequired", "", _REGION, _DAY, _REGIONS),
    (".*", "not a valid location", _REGION, _DAY, _REGIONS),
    (r"AvailabilityZone\w*NotSupported|InvalidAvailabilityZone\w*", "", _ZONE, _DAY, _ZONES),
    # Quotas. Spot cores have one quota per region: a smaller size of any family may still fit.
    (r"\w*PublicIP\w*(Limit|Quota)\w*", "", _REGION, 10 * _MINUTE, _ADDRESSES),
    ("SubnetIsFull", "", _REGION, 10 * _MINUTE, _SUBNET),
    (_QUOTAS, "low ?priority|spot", _REGION, 10 * _MINUTE, _QUOTA),
    (_QUOTAS, r"standard\w+ ?family|\w+ family cores", _TYPE, 10 * _MINUTE, _QUOTA),
    ("OperationNotAllowed", _OVER, _REGION, 10 * _MINUTE, _QUOTA),
    (_LIMITS, "", _REGION, 10 * _MINUTE, _QUOTA),
    *_FORBIDDEN,
    # After the codes that come with status 429 and mean something else.
    (_THROTTLED, "", _ACCOUNT, _MINUTE, ""),
    # A request that does not fit this size, or fits none.
    (".*", "security type|confidential", _TYPE, _DAY, _EXCLUDE),
    (".*", r"disk size \d+ ?GB is smaller", _ACCOUNT, _HOUR, _SIZE),
    (".*", r"vm ?size|hypervisor generation|architecture", _TYPE, _DAY, _IMAGE),
    (r"BadRequest|InvalidParameter|\w*NotSupported\w*", "zone", _OFFER, _DAY, ""),
    (_UNFIT, "", _TYPE, _HOUR, ""),
    (_WRONG, "", _ACCOUNT, _HOUR, _SETTINGS),
)


def _refused(code: str, message: str, scope: RefusalScope, time: timedelta, hint: str) -> ErrorRule:
    # A region that refuses for a day does so until a person changes something; throttling ends by itself.
    needs_action = True if (scope, time) == (_REGION, _DAY) else False if code == _THROTTLED else None
    return refused(code, scope, time, message=message, hint=hint, needs_action=needs_action)


LAUNCH_RULES = (*_RULES, *(_refused(*row) for row in _LAUNCH))
"""Errors of a launch; the first that matches decides."""

_CALL_RULES = (
    *_RULES,
    ErrorRule(kind=ErrorKind.TRANSIENT, code=_THROTTLED),
    *(ErrorRule(kind=ErrorKind.PERMANENT, code=code, hint=hint) for code, _, _, _, hint in _FORBIDDEN),
    ErrorRule(kind=ErrorKind.NOT_FOUND, code="HTTP_404"),
)
"""Errors of other calls."""

_UNKNOWN = refused(".*", _OFFER, 5 * _MINUTE)
_UNKNOWN_SHARED = refused(".*", _ACCOUNT, 5 * _MINUTE)
_NO_IMAGE = re.compile(r"(?:Platform|Gallery)?ImageNotFound")
_MIN_RETRY_AFTER, _MAX_RETRY_AFTER = timedelta(seconds=10), _HOUR


def problem_of(error: sdk.HttpResponseError) -> Problem:
    """Return the problem of an HTTP error; its status is a further code, ``HTTP_404``."""
    status = int(error.status_code or 0)
    code, message = "", ""
    for content in _errors(error.response):
        if _WRAPPERS.fullmatch(code) and (content.get("code") or not code):
            code, message = str(content.get("code") or ""), str(content.get("message") or message)
    fallback = f"HTTP_{status}"
    text = re.sub(r"https?://\S+", "", message).strip()[:400]
    return Problem(code=code or fallback, message=text, status=status, also=(fallback,) if code else ())


def _errors(response: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the error of a response and its details, outermost first."""
    try:
        found = [response.json().get("error")] if response is not None else []
    except (ValueError, AttributeError, TypeError, OSError):
        return
    while found:
        content = found.pop(0)
        if isinstance(content, Mapping):
            yield content
            details = content.get("details")
            found += details if isinstance(details, list) else []


def refusal(
    action: str, problem: Problem, *, retry_after: timedelta | None = None, unknown: ErrorRule = _UNKNOWN
) -> CloudTasksError:
    """Return the error of a failed launch: `InputError` (missing image), `LaunchRefusedError`, or a transient error.

    Args:
        unknown: The rule of a refusal that no other rule knows.
    """
    if _NO_IMAGE.fullmatch(problem.code):
        hint = "cloud-tasks list-images shows the available images"
        return InputError(f"image not found: {problem.message}", where="run.image", hint=hint)
    rule = matching_rule(problem, LAUNCH_RULES)
    if rule is None and problem.status < 500:
        rule = unknown
    if rule is not None and rule.code == _THROTTLED and retry_after is not None:
        # The header of another refusal only says when a client may repeat the request.
        rule = attrs.evolve(rule, retry_after=min(max(retry_after, _MIN_RETRY_AFTER), _MAX_RETRY_AFTER))
    return judge(action, problem, [rule] if rule is not None else ())


def _retry_after(error: sdk.HttpResponseError) -> timedelta | None:
    header = str(getattr(error.response, "headers", {}).get("Retry-After", ""))
    return timedelta(seconds=int(header)) if header.isdigit() else None


@contextmanager
def translate_errors(action: str, *, launching: bool = False, shared: bool = False) -> Iterator[None]:
    """Translate SDK exceptions.

    Args:
        action: Action, for the message: ``list instances``.
        launching: Whether a refusal becomes a `LaunchRefusedError`.
        shared: Whether what is launched is shared by all offers, such as a network.
    """
    try:
        yield
    except sdk.HttpResponseError as error:
        if isinstance(error, sdk.ClientAuthenticationError):
            # Of the sign-in, not of Resource Manager.
            raise credential_error(error) from error
        problem = problem_of(error)
        if not problem.status:
            raise ProviderError(f"cannot {action}: invalid response from Azure", transient=True) from error
        if launching:
            unknown = _UNKNOWN_SHARED if shared else _UNKNOWN
            raise refusal(f"cannot {action}", problem, retry_after=_retry_after(error), unknown=unknown) from error
        raise judge(f"cannot {action}", problem, _CALL_RULES) from error
    except (sdk.AzureError, OSError, ValueError) as error:
        # The message of a connection error contains URLs; its type is enough.
        text = "the operation is still running" if isinstance(error, TimeoutError) else type(error).__name__
        # No JSON, as from a proxy.
        text = "invalid response from Azure" if isinstance(error, ValueError) else text
        raise ProviderError(f"cannot {action}: {text}", transient=True) from error


@contextmanager
def after_launch_request() -> Iterator[None]:
    """Translate errors of the credentials into a transient one: the instance may have been started."""
    try:
        yield
    except (sdk.ClientAuthenticationError, CredentialsError) as error:
        found = error if isinstance(error, ProviderError) else credential_error(error)
        raise ProviderError(found.message, transient=True, hint=found.hint) from error
