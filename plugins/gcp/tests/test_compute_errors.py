"""Classification of Compute Engine errors for later launches."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import google.auth.exceptions
import pytest
import requests
from google.api_core import exceptions as api
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import LaunchRefusedError, NotFoundError, ProviderError, RefusalScope
from cloud_tasks_gcp.compute.compute_errors import ApiProblem, is_transient, problem_of, refusal, translate_errors
from cloud_tasks_gcp.compute.listing import silent_zones
from cloud_tasks_gcp.compute.operations import operation_problem

UNTYPED: Any = api
AUTH: Any = google.auth.exceptions
"""SDK exceptions, whose annotations are missing."""

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

OPERATIONS: list[tuple[str, str, RefusalScope, timedelta]] = [
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "The zone 'projects/p/zones/us-central1-a' does not have enough resources available to fulfill the request.",
        RefusalScope.OFFER,
        10 * MINUTE,
    ),
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "The zone does not have enough resources available: '(resource type:compute)'.",
        RefusalScope.OFFER,
        10 * MINUTE,
    ),
    ("RESOURCE_POOL_EXHAUSTED", "", RefusalScope.OFFER, 10 * MINUTE),
    ("INTERNAL_ERROR", "The reason is STOCKOUT", RefusalScope.OFFER, 10 * MINUTE),
    ("REGION_RESOURCE_POOL_EXHAUSTED", "", RefusalScope.INSTANCE_TYPE, 10 * MINUTE),
    (
        "QUOTA_EXCEEDED",
        "Quota 'N2_CPUS' exceeded.  Limit: 24.0 in region us-central1.",
        RefusalScope.INSTANCE_TYPE,
        10 * MINUTE,
    ),
    (
        "QUOTA_EXCEEDED",
        "Quota 'CPUS' exceeded.  Limit: 24.0 in region us-central1.",
        RefusalScope.INSTANCE_TYPE,
        10 * MINUTE,
    ),
    (
        "QUOTA_EXCEEDED",
        "Quota 'PREEMPTIBLE_CPUS' exceeded.  Limit: 8.0 in region us-central1.",
        RefusalScope.REGION,
        10 * MINUTE,
    ),
    (
        "QUOTA_EXCEEDED",
        "Quota 'IN_USE_ADDRESSES' exceeded.  Limit: 8.0 in region us-central1.",
        RefusalScope.REGION,
        10 * MINUTE,
    ),
    (
        "QUOTA_EXCEEDED",
        "Quota 'CPUS_ALL_REGIONS' exceeded.  Limit: 12.0 globally.",
        RefusalScope.ACCOUNT,
        10 * MINUTE,
    ),
    (
        "QUOTA_EXCEEDED",
        "Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 1.0 in region us-central1.",
        RefusalScope.INSTANCE_TYPE,
        10 * MINUTE,
    ),
    ("RESOURCE_OPERATION_RATE_EXCEEDED", "", RefusalScope.ACCOUNT, timedelta(seconds=30)),
    ("UNSUPPORTED_OPERATION", "It is not supported with this machine type.", RefusalScope.INSTANCE_TYPE, DAY),
    ("PERMISSIONS_ERROR", "Required 'compute.instances.create' permission", RefusalScope.ACCOUNT, HOUR),
    ("CONDITION_NOT_MET", "Constraint constraints/compute.vmExternalIpAccess violated", RefusalScope.ACCOUNT, HOUR),
    ("INTERNAL_ERROR", "Internal error. Please try again.", RefusalScope.OFFER, 2 * MINUTE),
    ("SOMETHING_NEW", "It is a new thing.", RefusalScope.OFFER, 5 * MINUTE),
]


def operation(code: str, message: str) -> sdk.Operation:
    error = sdk.Errors(code=code, message=message)
    return sdk.Operation(
        name="op", status="DONE", error=sdk.Error(errors=[error]), http_error_status_code=503, http_error_message="BAD"
    )


@pytest.mark.parametrize(("code", "message", "scope", "pause"), OPERATIONS)
def test_refusal_of_failed_operation_has_scope_and_delay(
    code: str, message: str, scope: RefusalScope, pause: timedelta
) -> None:
    problem = operation_problem(operation(code, message))
    assert problem is not None
    refused = refusal(problem)
    assert isinstance(refused, LaunchRefusedError)
    assert (refused.scope, refused.retry_after, refused.reason) == (scope, pause, code)


def test_operation_problem_without_error_is_none() -> None:
    assert operation_problem(sdk.Operation(name="op", status="DONE")) is None


def test_operation_problem_reads_quota_metric_and_scope_from_details() -> None:
    info = sdk.QuotaExceededInfo(
        metric_name="compute.googleapis.com/cpus_per_vm_family",
        limit_name="CPUS-PER-VM-FAMILY-per-project-region",
        dimensions={"region": "us-central1", "vm_family": "C4"},
    )
    error = sdk.Errors(code="QUOTA_EXCEEDED", message="too much", error_details=[sdk.ErrorDetails(quota_info=info)])
    problem = operation_problem(sdk.Operation(status="DONE", error=sdk.Error(errors=[error])))
    assert problem == ApiProblem(code="QUOTA_EXCEEDED", message="too much", metric="CPUS_PER_VM_FAMILY", regional=True)
    refused = refusal(problem)
    assert isinstance(refused, LaunchRefusedError)
    assert refused.scope is RefusalScope.INSTANCE_TYPE
    assert "CPUS_PER_VM_FAMILY" in refused.hint


def response(status: int, reason: str, message: str) -> api.GoogleAPICallError:
    error: api.GoogleAPICallError = UNTYPED.from_http_status(
        status, message, errors=[{"reason": reason, "message": message}]
    )
    return error


RESPONSES: list[tuple[int, str, str, RefusalScope, timedelta]] = [
    (
        403,
        "quotaExceeded",
        "Quota 'CPUS_ALL_REGIONS' exceeded. Limit: 12.0 globally.",
        RefusalScope.ACCOUNT,
        10 * MINUTE,
    ),
    (403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries'", RefusalScope.ACCOUNT, MINUTE / 2),
    (429, "tooMany", "Slow down", RefusalScope.ACCOUNT, MINUTE / 2),
    (403, "forbidden", "Required 'compute.instances.create' permission for 'x'", RefusalScope.ACCOUNT, HOUR),
    (
        412,
        "conditionNotMet",
        "Constraint constraints/compute.trustedImageProjects violated",
        RefusalScope.ACCOUNT,
        HOUR,
    ),
    (
        400,
        "invalid",
        "Invalid value for field 'resource.machineType': 'x'. Machine type with name 'x' does not exist in zone 'z'.",
        RefusalScope.OFFER,
        DAY,
    ),
    (
        400,
        "badRequest",
        "[e2-standard-2, 'projects/p/zones/z/diskTypes/hyperdisk-balanced'] features are not compatible for creating "
        "instance.",
        RefusalScope.INSTANCE_TYPE,
        DAY,
    ),
    (400, "invalid", "Invalid value for field 'zone': 'moon-a'. Unknown zone.", RefusalScope.ZONE, DAY),
    (404, "notFound", "The resource 'projects/p/zones/moon-a' was not found", RefusalScope.ZONE, DAY),
    (404, "notFound", "The resource 'projects/p/global/images/none' was not found", RefusalScope.ACCOUNT, HOUR),
    (404, "notFound", "The resource 'projects/p/global/networks/none' was not found", RefusalScope.ACCOUNT, HOUR),
]


@pytest.mark.parametrize(("status", "reason", "message", "scope", "pause"), RESPONSES)
def test_translate_errors_of_refused_insertion_has_scope_and_delay(
    status: int, reason: str, message: str, scope: RefusalScope, pause: timedelta
) -> None:
    with pytest.raises(LaunchRefusedError) as refused, translate_errors("start it", launching=True):
        raise response(status, reason, message)
    assert (refused.value.scope, refused.value.retry_after, refused.value.reason) == (scope, pause, reason)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("Compute Engine API has not been used in project 1 before or it is disabled", "gcloud services enable"),
        ("This API method requires billing to be enabled", "enable billing"),
        ("The user does not have access to service account 'w@p': iam.serviceAccounts.actAs", "serviceAccountUser"),
        ("Required 'compute.instances.create' permission", "roles/compute.instanceAdmin.v1"),
    ],
)
def test_refusal_for_missing_permission_has_fix(message: str, advice: str) -> None:
    assert advice in str(refusal(problem_of(response(403, "forbidden", message))))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("launching", [True, False])
def test_translate_errors_of_server_error_is_transient(status: int, launching: bool) -> None:
    with pytest.raises(ProviderError) as failed, translate_errors("start it", launching=launching):
        raise response(status, "backendError", "Backend Error")
    assert failed.value.transient
    assert not isinstance(failed.value, LaunchRefusedError)


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("reset"),
        requests.Timeout("late"),
        UNTYPED.RetryError("tired", cause=response(503, "backendError", "Backend Error")),
        AUTH.TransportError("no route"),
    ],
)
def test_translate_errors_of_lost_connection_is_transient(error: Exception) -> None:
    with pytest.raises(ProviderError) as failed, translate_errors("list instances"):
        raise error
    assert failed.value.transient
    assert failed.value.message.startswith("cannot list instances: ")


def test_translate_errors_of_rejected_credentials_omits_server_response() -> None:
    with pytest.raises(ProviderError, match="gcloud auth") as failed, translate_errors("list instances"):
        raise AUTH.RefreshError("invalid_grant: refresh_token=1//secret")
    assert not failed.value.transient
    assert "secret" not in str(failed.value)


def test_translate_errors_of_missing_resource_is_not_found() -> None:
    with (
        pytest.raises(NotFoundError, match="cannot read x: The resource 'x' was not found"),
        translate_errors("read x"),
    ):
        raise response(404, "notFound", "The resource 'x' was not found.")


def test_problem_of_message_is_one_line_without_url() -> None:
    problem = problem_of(response(400, "invalid", "POST https://compute.googleapis.com/x: Invalid\n  value."))
    assert problem.message == "Invalid value"
    assert not re.search(r"https?://", str(refusal(problem)))


@pytest.mark.parametrize(
    ("status", "reason", "transient"),
    [
        (403, "rateLimitExceeded", True),
        (429, "tooMany", True),
        (500, "backendError", True),
        (503, "backendError", True),
        (403, "forbidden", False),
        (400, "invalid", False),
        (404, "notFound", False),
    ],
)
def test_is_transient_for_read_only_calls(status: int, reason: str, transient: bool) -> None:
    assert is_transient(response(status, reason, "No.")) is transient


@pytest.mark.parametrize(
    "page",
    [
        sdk.InstanceAggregatedList(unreachables=["projects/p/zones/z"]),
        sdk.InstanceAggregatedList(warning=sdk.Warning(code="UNREACHABLE", message="no answer from z")),
        sdk.InstanceAggregatedList(
            items={"zones/z": sdk.InstancesScopedList(warning=sdk.Warning(code="UNREACHABLE", message="down"))}
        ),
    ],
)
def test_silent_zones_raises_for_a_required_zone(page: sdk.InstanceAggregatedList) -> None:
    with pytest.raises(ProviderError, match=r"cannot list instances: .*z") as failed:
        silent_zones(page, "list instances", lambda place: place == "z")
    assert failed.value.transient


@pytest.mark.parametrize(
    "page",
    [
        sdk.InstanceAggregatedList(unreachables=["projects/p/zones/z"]),
        sdk.InstanceAggregatedList(
            unreachables=["projects/p/zones/z"], warning=sdk.Warning(code="UNREACHABLE", message="some zones")
        ),
        sdk.InstanceAggregatedList(
            items={"zones/z": sdk.InstancesScopedList(warning=sdk.Warning(code="UNREACHABLE", message="down"))}
        ),
    ],
)
def test_silent_zones_returns_other_zones(page: sdk.InstanceAggregatedList) -> None:
    assert silent_zones(page, "list instances", lambda place: False) == {"z"}


def test_silent_zones_raises_for_a_warning_that_may_be_about_any_zone() -> None:
    page = sdk.InstanceAggregatedList(warning=sdk.Warning(code="UNREACHABLE", message="some zones"))
    with pytest.raises(ProviderError, match="some zones"):
        silent_zones(page, "list instances", lambda place: False)


def test_silent_zones_accepts_empty_zone() -> None:
    nothing = sdk.InstancesScopedList(warning=sdk.Warning(code="NO_RESULTS_ON_PAGE"))
    page = sdk.InstanceAggregatedList(items={"zones/z": nothing})
    assert silent_zones(page, "list instances", lambda place: True) == set()
