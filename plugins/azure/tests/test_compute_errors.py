"""Errors of Resource Manager: every documented code has one scope, time and advice."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError

from cloud_tasks.errors import InputError, LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks.plugin.kit import Problem
from cloud_tasks_azure.compute.compute_errors import LAUNCH_RULES, problem_of, refusal, translate_errors

SECRET = "s3cr3t-of-an-application"
ACCOUNT, REGION, ZONE = RefusalScope.ACCOUNT, RefusalScope.REGION, RefusalScope.ZONE
TYPE, OFFER = RefusalScope.INSTANCE_TYPE, RefusalScope.OFFER
TIER = "The requested tier for resource 'm' is currently not available in location 'eastus' for subscription 's'."

# Code, HTTP status (200: the state of an operation), message, scope, minutes, words of the advice.
REFUSALS = [
    ("ZonalAllocationFailed", 200, "Allocation failed.", OFFER, 10, ""),
    ("AllocationFailed", 200, "Allocation failed.", OFFER, 10, ""),
    ("AllocationTimeout", 200, "", OFFER, 10, ""),
    ("OverconstrainedAllocationRequest", 409, "", OFFER, 10, ""),
    ("OverconstrainedZonalAllocationRequest", 409, "", OFFER, 10, ""),
    ("SkuNotAvailable", 409, "due to Capacity Restrictions", OFFER, 10, ""),
    ("SkuNotAvailable", 409, TIER, OFFER, 10, ""),
    ("SkuNotAvailable", 409, "not available for subscription", TYPE, 60, "exclude the type"),
    ("SpotPriceGreaterThanProvidedMaxPrice", 409, "lower than the current spot price", OFFER, 10, "on-demand"),
    ("AzureSpotIsNotSupportedForThisVMSize", 409, "not supported for this VM size", OFFER, 1440, ""),
    ("MaxPriceValueInvalid", 400, "Invalid max price value", OFFER, 1440, ""),
    ("AzureSpotFeatureNotEnabledForSubscription", 409, "", REGION, 1440, "use_spot: false"),
    ("OSProvisioningTimedOut", 200, "did not finish in the allotted time", OFFER, 10, "cloud-init"),
    ("OperationNotAllowed", 409, "exceeding approved standardDSv5Family Cores quota", TYPE, 10, "Quotas"),
    ("OperationNotAllowed", 409, "exceeding approved Total Regional Cores quota", REGION, 10, "Quotas"),
    ("OperationNotAllowed", 409, "exceeding approved LowPriorityCores quota", REGION, 10, "Quotas"),
    ("QuotaExceeded", 409, "exceeding approved Total Regional Cores quota", REGION, 10, "Quotas"),
    ("ResourceQuotaExceeded", 409, "exceeding quota", REGION, 10, "Quotas"),
    ("PublicIPCountLimitReached", 400, "Cannot create more than 20 public IP addresses", REGION, 10, "public_address"),
    ("IPv4StandardSkuPublicIpCountLimitReached", 400, "more than 20", REGION, 10, "public_address"),
    ("SubnetIsFull", 400, "Subnet is full", REGION, 10, "larger subnet"),
    ("OperationNotAllowed", 409, "The VM size cannot do this", TYPE, 1440, "choose another image"),
    ("TooManyRequests", 429, "", ACCOUNT, 1, ""),
    ("SubscriptionRequestsThrottled", 429, "", ACCOUNT, 1, ""),
    ("ResourceCollectionRequestsThrottled", 429, "", ACCOUNT, 1, ""),
    ("", 429, "", ACCOUNT, 1, ""),
    # The older form of throttling by Compute.
    ("OperationNotAllowed", 429, "too many requests have been received for this subscription", ACCOUNT, 1, ""),
    ("OperationNotAllowed", 429, "exceeding approved Total Regional Cores quota", REGION, 10, "Quotas"),
    ("AuthorizationFailed", 403, "no right", ACCOUNT, 60, "--policy"),
    ("LinkedAuthorizationFailed", 403, "no right to join the subnet", ACCOUNT, 60, "subnet"),
    ("RequestDisallowedByPolicy", 403, "policy", ACCOUNT, 60, "policy of the organization"),
    ("RequestDisallowedByAzure", 403, "restricted regions", REGION, 1440, "run.region"),
    ("ScopeLocked", 409, "locked", ACCOUNT, 60, "az lock list"),
    ("ReadOnlyDisabledSubscription", 409, "disabled", ACCOUNT, 60, "disabled"),
    ("SubscriptionNotFound", 404, "", ACCOUNT, 60, "az account list"),
    ("MissingSubscriptionRegistration", 409, "register", ACCOUNT, 60, "az provider register"),
    ("NoRegisteredProviderFound", 400, "register", ACCOUNT, 60, "az provider register"),
    ("SubscriptionNotRegisteredForFeature", 409, "feature Microsoft.Compute/X", ACCOUNT, 60, "az feature register"),
    ("DisallowedOperation", 403, "The current subscription type is not permitted", ACCOUNT, 60, "az account list"),
    ("FailedIdentityOperation", 200, "Resource 'w' was not found", ACCOUNT, 60, "azure settings"),
    ("InvalidSubscriptionRegistrationState", 409, "", ACCOUNT, 60, "az provider register"),
    ("LocationNotAvailableForResourceType", 400, "", REGION, 1440, "list-regions"),
    ("RegionDoesNotAllowProvisioning", 409, "", REGION, 1440, "list-regions"),
    ("MissingRegistrationForLocation", 409, "", REGION, 1440, "list-regions"),
    ("AvailabilityZoneNotSupported", 400, "", ZONE, 1440, "--zones"),
    ("InvalidAvailabilityZone", 400, "", ZONE, 1440, "--zones"),
    ("InvalidParameter", 400, "The value provided for the VM size is not valid", TYPE, 1440, ""),
    ("BadRequest", 400, "cannot boot Hypervisor Generation '1'", TYPE, 1440, "another image"),
    ("BadRequest", 400, "The VM size is not supported with '<NULL>' security type", TYPE, 1440, "exclude the type"),
    ("VMMarketplaceInvalidInput", 400, "requires Plan information in the request", ACCOUNT, 60, "az vm image terms"),
    ("MarketplacePurchaseEligibilityFailed", 400, "", ACCOUNT, 60, "az vm image terms"),
    ("ResourcePurchaseValidationFailed", 400, "", ACCOUNT, 60, "az vm image terms"),
    (
        "InvalidParameter",
        400,
        "The specified disk size 30 GB is smaller than the size of the corresponding disk in the VM image: 64 GB",
        ACCOUNT,
        60,
        "total_boot_disk_size",
    ),
    ("InvalidParameter", 400, "adminUsername is not valid", ACCOUNT, 60, "azure settings"),
    ("InvalidRequestContent", 400, "", ACCOUNT, 60, "azure settings"),
    ("InvalidResourceReference", 400, "the subnet was not found", ACCOUNT, 60, "azure settings"),
    ("ResourceGroupNotFound", 404, "", ACCOUNT, 60, "azure settings"),
    ("ResourceNotFound", 404, "", ACCOUNT, 60, "azure settings"),
    ("ReservedResourceName", 400, "", ACCOUNT, 60, "azure settings"),
    ("PropertyChangeNotAllowed", 409, "", TYPE, 60, ""),
    ("SomethingNew", 409, "", OFFER, 5, ""),
]


@pytest.mark.parametrize(("code", "status", "message", "scope", "minutes", "advice"), REFUSALS)
def test_launch_error_has_the_scope_time_and_advice_of_its_code(
    code: str, status: int, message: str, scope: RefusalScope, minutes: int, advice: str
) -> None:
    found = translated(status, {"error": {"code": code, "message": message}})
    assert isinstance(found, LaunchRefusedError)
    assert (found.scope, found.reason) == (scope, code or f"HTTP_{status}")
    assert found.retry_after == timedelta(minutes=minutes)
    assert advice in found.hint
    assert found.message.startswith("cannot launch m: ")


def test_every_launch_rule_decides_for_some_documented_code() -> None:
    problems = [Problem(code=code, message=text, also=(f"HTTP_{status}",)) for code, status, text, *_ in REFUSALS]
    problems += [Problem(code=code) for code, _ in PASSING]
    problems += [Problem(code="ExpiredAuthenticationToken"), Problem(code="X", message="is not a valid location")]
    problems.append(Problem(code="BadRequest", message="zone 4"))
    idle = [
        rule.code
        for number, rule in enumerate(LAUNCH_RULES)
        if not any(
            rule.matches(problem) and not any(earlier.matches(problem) for earlier in LAUNCH_RULES[:number])
            for problem in problems
        )
    ]
    assert idle == []


PASSING = [
    ("InternalServerError", 500),
    ("InternalExecutionError", 200),
    ("", 503),
    ("ResourceGroupBeingDeleted", 409),
    # Microsoft.Network answers a conflict with the status of throttling.
    ("RetryableError", 429),
    ("AnotherOperationInProgress", 429),
    ("OperationPreempted", 409),
    ("NetworkingInternalOperationError", 200),
    ("DiskServiceInternalError", 409),
    ("ReferencedResourceNotProvisioned", 409),
]


@pytest.mark.parametrize(("code", "status"), PASSING)
def test_launch_error_that_passes_is_transient_whatever_its_status(code: str, status: int) -> None:
    found = translated(status, {"error": {"code": code, "message": "wait"}})
    assert not isinstance(found, LaunchRefusedError)
    assert found.transient


def test_launch_error_of_the_cause_in_the_details_counts() -> None:
    for outer in ("Conflict", "BadRequest", "DeploymentFailed", "RetryableError", "TooManyRequests"):
        inner = {"code": "DeploymentFailed", "details": [{"code": "SkuNotAvailable", "message": "Capacity"}]}
        found = translated(429, {"error": {"code": outer, "message": "failed", "details": [inner]}})
        assert isinstance(found, LaunchRefusedError), outer
        assert (found.reason, found.scope) == ("SkuNotAvailable", OFFER)


def test_unknown_error_of_a_network_is_held_against_no_offer() -> None:
    with (
        pytest.raises(LaunchRefusedError) as caught,
        translate_errors("create the network n", launching=True, shared=True),
    ):
        raise error_of(409, {"error": {"code": "SomethingNew", "message": "no"}})
    assert (caught.value.scope, caught.value.reason) == (ACCOUNT, "SomethingNew")


def test_refusal_of_a_missing_image_is_bad_input() -> None:
    found = refusal("cannot launch m", Problem(code="PlatformImageNotFound", message="The image 'x' was not found"))
    assert isinstance(found, InputError)
    assert str(found).startswith("run.image: image not found: The image 'x' was not found")


@pytest.mark.parametrize(("header", "seconds"), [("0", 10), ("17", 17), ("2700", 2700), ("90000", 3600), ("soon", 60)])
def test_launch_error_of_throttling_lasts_as_long_as_azure_says(header: str, seconds: int) -> None:
    found = translated(429, "", **{"Retry-After": header})
    assert isinstance(found, LaunchRefusedError)
    assert (found.retry_after, found.needs_action) == (timedelta(seconds=seconds), False)


@pytest.mark.parametrize(
    ("code", "minutes", "needs_action"),
    [("AllocationFailed", 10, False), ("RequestDisallowedByPolicy", 60, True), ("SomethingNew", 5, False)],
)
@pytest.mark.parametrize("header", ["0", "2", "1200"])
def test_launch_error_but_throttling_has_the_time_of_its_rule(
    code: str, minutes: int, needs_action: bool, header: str
) -> None:
    found = translated(409, {"error": {"code": code, "message": "no"}}, **{"Retry-After": header})
    assert isinstance(found, LaunchRefusedError)
    assert (found.retry_after, found.needs_action) == (timedelta(minutes=minutes), needs_action)


class _Response:
    def __init__(self, status: int, body: Any, **headers: str) -> None:
        self.status_code, self.reason, self.headers, self._body = status, "reason", headers, body

    def json(self) -> Any:
        return json.loads(self._body) if isinstance(self._body, str) else self._body

    def text(self) -> str:
        return self._body if isinstance(self._body, str) else json.dumps(self._body)

    def body(self) -> bytes:
        return self.text().encode()


def error_of(status: int, body: Any, **headers: str) -> HttpResponseError:
    return HttpResponseError(response=_Response(status, body, **headers))  # type: ignore[arg-type]


def translated(status: int, body: Any, **headers: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught, translate_errors("launch m", launching=True):
        raise error_of(status, body, **headers)
    return caught.value


@pytest.mark.parametrize(
    ("raised", "expected", "transient"),
    [
        (error_of(404, {"error": {"code": "ResourceNotFound"}}), NotFoundError, False),
        (error_of(429, ""), ProviderError, True),
        (error_of(503, "<html>"), ProviderError, True),
        # A page instead of the answer to a creation.
        (HttpResponseError("invalid"), ProviderError, True),
        (error_of(400, {"error": {"code": "Bad", "message": "wrong"}}), ProviderError, False),
        (error_of(400, {"error": "odd"}), ProviderError, False),
        (error_of(400, {"error": {"code": "X", "details": [None, "odd"]}}), ProviderError, False),
        (ServiceRequestError("no route to https://host/?sig=secret"), ProviderError, True),
        (ConnectionResetError(), ProviderError, True),
        (ClientAuthenticationError(message=SECRET), ProviderError, False),
    ],
)
def test_translate_errors_converts_every_sdk_exception(
    raised: Exception, expected: type[ProviderError], transient: bool
) -> None:
    with pytest.raises(expected) as caught, translate_errors("do it"):
        raise raised
    assert caught.value.transient is transient
    assert "sig=" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_translated_message_contains_no_url() -> None:
    body = {"error": {"code": "Bad", "message": "see https://host/blob?sig=abc for more"}}
    assert "sig=" not in problem_of(error_of(400, body)).message
