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
from cloud_tasks_gcp.compute.compute_errors import is_transient, launch_error, problem_of, translate_errors
from cloud_tasks_gcp.compute.listing import silent_zones
from cloud_tasks_gcp.compute.operations import operation_problem

UNTYPED: Any = api
AUTH: Any = google.auth.exceptions
"""SDK exceptions, whose annotations are missing."""

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

ACCOUNT, REGION, ZONE = RefusalScope.ACCOUNT, RefusalScope.REGION, RefusalScope.ZONE
TYPE, OFFER = RefusalScope.INSTANCE_TYPE, RefusalScope.OFFER
ACT_AS = "roles/iam.serviceAccountUser"


def quota(metric: str, where: str = "in region us-central1") -> tuple[str, str]:
    return "QUOTA_EXCEEDED", f"Quota '{metric}' exceeded.  Limit: 24.0 {where}."


DISK_QUOTAS = ("SSD_TOTAL_GB", "DISKS_TOTAL_GB", "HDB_TOTAL_IOPS", "PD_EXTREME_TOTAL_PROVISIONED_IOPS")

OPERATIONS: list[tuple[str, str, RefusalScope, timedelta, str]] = [
    # Code, message, scope, pause, part of the advice.
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "The zone 'projects/p/zones/us-central1-a' does not have enough resources available to fulfill the request.",
        OFFER,
        10 * MINUTE,
        "",
    ),
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "The zone does not have enough resources available: '(resource type:compute)'.",
        OFFER,
        10 * MINUTE,
        "",
    ),
    ("RESOURCE_POOL_EXHAUSTED", "", OFFER, 10 * MINUTE, ""),
    ("INTERNAL_ERROR", "The reason is STOCKOUT", OFFER, 10 * MINUTE, ""),
    ("REGION_RESOURCE_POOL_EXHAUSTED", "", TYPE, 10 * MINUTE, ""),
    ("IP_SPACE_EXHAUSTED", "IP space of the subnetwork is exhausted.", REGION, 10 * MINUTE, "gcp.subnetwork"),
    ("IP_SPACE_EXHAUSTED_WITH_DETAILS", "IP space is exhausted.", REGION, 10 * MINUTE, "gcp.subnetwork"),
    (*quota("N2_CPUS"), TYPE, 10 * MINUTE, "IAM & Admin > Quotas"),
    (*quota("CPUS"), TYPE, 10 * MINUTE, "IAM & Admin > Quotas"),
    (*quota("PREEMPTIBLE_CPUS"), REGION, 10 * MINUTE, "IAM & Admin > Quotas"),
    (*quota("IN_USE_ADDRESSES"), REGION, 10 * MINUTE, "IAM & Admin > Quotas"),
    *((*quota(metric), TYPE, 10 * MINUTE, "other boot_disk_types") for metric in DISK_QUOTAS),
    (*quota("CPUS_ALL_REGIONS", "globally"), ACCOUNT, 10 * MINUTE, "IAM & Admin > Quotas"),
    (*quota("GPUS_ALL_REGIONS", "globally"), TYPE, 10 * MINUTE, "IAM & Admin > Quotas"),
    (*quota("NVIDIA_L4_GPUS"), TYPE, 10 * MINUTE, "IAM & Admin > Quotas"),
    ("QUOTA_EXCEEDED", "Some quota is exceeded.", REGION, 10 * MINUTE, "IAM & Admin > Quotas"),
    ("RESOURCE_OPERATION_RATE_EXCEEDED", "", ACCOUNT, MINUTE / 2, ""),
    ("CONCURRENT_OPERATIONS_QUOTA_EXCEEDED", "", ACCOUNT, MINUTE / 2, ""),
    ("UNSUPPORTED_OPERATION", "It is not supported with this machine type.", TYPE, DAY, "instance_types"),
    ("INVALID_USAGE", "The disk type is not usable here.", TYPE, DAY, "instance_types"),
    ("PERMISSIONS_ERROR", "Required 'compute.instances.create' permission", ACCOUNT, HOUR, "instanceAdmin"),
    ("SERVICE_ACCOUNT_ACCESS_DENIED", "Access denied.", ACCOUNT, HOUR, ACT_AS),
    (
        "SERVICE_ACCOUNT_ACCESS_DENIED",
        "The user does not have access to service account 'w@p.iam.gserviceaccount.com'.  User: 'sam@example.com'.  "
        "Ask a project owner to grant you the iam.serviceAccountUser role on the service account.",
        ACCOUNT,
        HOUR,
        ACT_AS,
    ),
    ("CONDITION_NOT_MET", "Constraint constraints/compute.requireOsLogin violated", ACCOUNT, HOUR, "administrator"),
    (
        "CONDITION_NOT_MET",
        "Constraint constraints/gcp.resourceLocations violated for projects/p",
        REGION,
        DAY,
        "--region",
    ),
    ("RESOURCE_NOT_FOUND", "The resource 'projects/p/global/networks/n' was not found", ACCOUNT, HOUR, "gcp.network"),
    ("RESOURCE_NOT_FOUND", "The resource 'projects/p/global/images/i' was not found", ACCOUNT, HOUR, "run.image"),
    ("NETWORK_NOT_FOUND", "The network was not found", ACCOUNT, HOUR, "gcp.network"),
    ("RESOURCE_NOT_READY", "The resource 'projects/p/zones/z/disks/d' is not ready", OFFER, 2 * MINUTE, ""),
    ("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "The disk is already being used", OFFER, 2 * MINUTE, ""),
    ("RESOURCE_ALREADY_EXISTS", "The resource 'ct-job-1' already exists", OFFER, 2 * MINUTE, ""),
    ("INTERNAL_ERROR", "Internal error. Please try again.", OFFER, 2 * MINUTE, ""),
    ("UNKNOWN", "", OFFER, 2 * MINUTE, ""),
    ("", "", OFFER, 2 * MINUTE, ""),
    ("SOMETHING_NEW", "It is a new thing.", OFFER, 5 * MINUTE, ""),
]


def operation(code: str, message: str) -> sdk.Operation:
    error = sdk.Errors(code=code, message=message)
    return sdk.Operation(
        name="op", status="DONE", error=sdk.Error(errors=[error]), http_error_status_code=503, http_error_message="BAD"
    )


@pytest.mark.parametrize(("code", "message", "scope", "pause", "advice"), OPERATIONS)
def test_launch_error_of_failed_operation_has_scope_delay_and_advice(
    code: str, message: str, scope: RefusalScope, pause: timedelta, advice: str
) -> None:
    problem = operation_problem(operation(code, message))
    assert problem is not None
    refused = launch_error("start ct-1", problem)
    assert isinstance(refused, LaunchRefusedError)
    assert (refused.scope, refused.retry_after) == (scope, pause)
    assert refused.reason == (code or "OPERATION_FAILED")
    assert bool(refused.hint) is bool(advice)
    assert advice in refused.hint
    assert refused.needs_action is (pause >= HOUR or (scope, pause) == (ACCOUNT, 10 * MINUTE))
    assert advice or not refused.needs_action


def test_operation_problem_without_error_is_none() -> None:
    assert operation_problem(sdk.Operation(name="op", status="DONE")) is None


def test_launch_error_of_operation_with_status_only_is_a_refusal() -> None:
    problem = operation_problem(
        sdk.Operation(status="DONE", http_error_status_code=503, http_error_message="SERVICE UNAVAILABLE")
    )
    assert problem is not None
    assert isinstance(launch_error("start ct-1", problem), LaunchRefusedError)


def test_operation_problem_reads_quota_metric_and_scope_from_details() -> None:
    info = sdk.QuotaExceededInfo(
        metric_name="compute.googleapis.com/cpus_per_vm_family",
        limit_name="CPUS-PER-VM-FAMILY-per-project-region",
        dimensions={"region": "us-central1", "vm_family": "C4"},
    )
    error = sdk.Errors(code="QUOTA_EXCEEDED", message="too much", error_details=[sdk.ErrorDetails(quota_info=info)])
    problem = operation_problem(sdk.Operation(status="DONE", error=sdk.Error(errors=[error])))
    assert problem is not None
    assert problem.also == ("quota:regional:CPUS_PER_VM_FAMILY",)
    refused = launch_error("start ct-1", problem)
    assert isinstance(refused, LaunchRefusedError)
    assert refused.scope is RefusalScope.INSTANCE_TYPE
    assert refused.message == "cannot start ct-1: QUOTA_EXCEEDED: too much (quota CPUS_PER_VM_FAMILY)"


def response(status: int, reason: str, message: str) -> api.GoogleAPICallError:
    error: api.GoogleAPICallError = UNTYPED.from_http_status(
        status, message, errors=[{"reason": reason, "message": message}]
    )
    return error


FIELD = "Invalid value for field 'resource"
RESPONSES: list[tuple[int, str, str, RefusalScope, timedelta, str]] = [
    (403, "quotaExceeded", quota("CPUS_ALL_REGIONS", "globally")[1], ACCOUNT, 10 * MINUTE, "Quotas"),
    (403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries'", ACCOUNT, MINUTE / 2, ""),
    (403, "userRateLimitExceeded", "User rate limit exceeded", ACCOUNT, MINUTE / 2, ""),
    (403, "dailyLimitExceeded", "Daily limit exceeded", ACCOUNT, HOUR, "Quotas"),
    (429, "tooMany", "Slow down", ACCOUNT, MINUTE / 2, ""),
    (403, "forbidden", "Required 'compute.instances.create' permission for 'x'", ACCOUNT, HOUR, "instanceAdmin"),
    (403, "insufficientPermissions", "Insufficient permission", ACCOUNT, HOUR, "instanceAdmin"),
    (
        403,
        "accessNotConfigured",
        "Compute Engine API has not been used in project 1 before or it is disabled",
        ACCOUNT,
        HOUR,
        "gcloud services enable",
    ),
    (
        403,
        "forbidden",
        "Required 'compute.images.useReadOnly' permission for 'projects/q/global/images/i'",
        ACCOUNT,
        HOUR,
        "roles/compute.imageUser",
    ),
    (
        403,
        "forbidden",
        "Required 'compute.subnetworks.use' permission for 'projects/host/regions/r/subnetworks/s'",
        ACCOUNT,
        HOUR,
        "roles/compute.networkUser",
    ),
    (403, "SECURITY_POLICY_VIOLATED", "Request is prohibited", ACCOUNT, HOUR, "administrator of the organization"),
    (403, "CONSUMER_SUSPENDED", "Consumer 'projects/p' has been suspended.", ACCOUNT, HOUR, "billing account"),
    (403, "forbidden", "Request is prohibited by organization's policy.", ACCOUNT, HOUR, "administrator"),
    (
        403,
        "quotaExceeded",
        "Quota limit 'GPUS-PER-GPU-FAMILY-per-project-region' has been exceeded. Limit: 0.0 in region us-central1.",
        TYPE,
        10 * MINUTE,
        "Quotas",
    ),
    (400, "invalid", "Preemptible instances are not supported for machine type x.", TYPE, DAY, "instance_types"),
    (
        400,
        "invalid",
        f"{FIELD}.disks[0].initializeParams.provisionedIops': '90000'.",
        ACCOUNT,
        HOUR,
        "run.boot_disk_iops",
    ),
    (403, "forbidden", "This API method requires billing to be enabled", ACCOUNT, HOUR, "enable billing"),
    (403, "forbidden", "Required 'iam.serviceAccounts.actAs' permission for 'w@p'", ACCOUNT, HOUR, ACT_AS),
    (
        400,
        "invalid",
        "The user does not have access to service account 'w@p.iam.gserviceaccount.com'. User: 'sam@example.com'.",
        ACCOUNT,
        HOUR,
        ACT_AS,
    ),
    (400, "invalid", "SERVICE_ACCOUNT_ACCESS_DENIED", ACCOUNT, HOUR, ACT_AS),
    (
        412,
        "conditionNotMet",
        "Constraint constraints/compute.trustedImageProjects violated",
        ACCOUNT,
        HOUR,
        "run.image",
    ),
    (
        412,
        "conditionNotMet",
        "Constraint constraints/compute.vmExternalIpAccess violated",
        ACCOUNT,
        HOUR,
        "gcp.external_address",
    ),
    (412, "conditionNotMet", "Constraint constraints/gcp.resourceLocations violated", REGION, DAY, "--region"),
    (
        412,
        "conditionNotMet",
        "Organization policy constraint constraints/compute.vmExternalIpAccess violated",
        ACCOUNT,
        HOUR,
        "gcp.external_address",
    ),
    (503, "stockout", "The zone does not have enough resources available", OFFER, 10 * MINUTE, ""),
    (503, "insufficientCapacity", "Insufficient capacity", OFFER, 10 * MINUTE, ""),
    (
        400,
        "invalid",
        f"{FIELD}.machineType': 'x'. Machine type with name 'x' does not exist in zone 'z'.",
        OFFER,
        DAY,
        "instance_types",
    ),
    (
        400,
        "badRequest",
        "hyperdisk-balanced disk type cannot be used by n2-standard-4 machine type.",
        TYPE,
        DAY,
        "boot_disk_types",
    ),
    (
        400,
        "invalid",
        f"{FIELD}.disks[0].initializeParams.diskType': 'projects/p/zones/z/diskTypes/hyperdisk-balanced'. The "
        "referenced diskType resource cannot be found.",
        OFFER,
        DAY,
        "boot_disk_types",
    ),
    (403, "forbidden", "Service account w@p.iam.gserviceaccount.com is disabled.", ACCOUNT, HOUR, "service_account"),
    (
        400,
        "badRequest",
        "[e2-standard-2, 'projects/p/zones/z/diskTypes/hyperdisk-balanced'] features are not compatible for creating "
        "instance.",
        TYPE,
        DAY,
        "boot_disk_types",
    ),
    (
        400,
        "invalid",
        f"{FIELD}.disks[0]': Requested boot disk architecture (X86_64) is not compatible with machine type "
        "architecture (ARM64).",
        TYPE,
        DAY,
        "run.image",
    ),
    (
        400,
        "invalid",
        f"{FIELD}.disks[0].initializeParams': Requested disk size cannot be smaller than the image size (20 GB)",
        ACCOUNT,
        HOUR,
        "run.total_boot_disk_size",
    ),
    (
        400,
        "badRequest",
        "Instances with guest accelerators do not support live migration.",
        TYPE,
        DAY,
        "instance_types",
    ),
    (
        400,
        "invalid",
        f"{FIELD}.networkInterfaces[0].network': 'n'. The referenced network resource cannot be found.",
        ACCOUNT,
        HOUR,
        "gcp.network",
    ),
    (400, "invalid", "Invalid value for field 'zone': 'moon-a'. Unknown zone.", ZONE, DAY, "run.zone"),
    (400, "resourceNotReady", "The resource 'projects/p/zones/z/disks/d' is not ready", OFFER, 2 * MINUTE, ""),
    (404, "notFound", "The resource 'projects/p/zones/moon-a' was not found", ZONE, DAY, "run.zone"),
    (404, "notFound", "The resource 'projects/p/global/images/none' was not found", ACCOUNT, HOUR, "run.image"),
    (404, "notFound", "The resource 'projects/p/global/networks/none' was not found", ACCOUNT, HOUR, "gcp.network"),
    (
        404,
        "notFound",
        "The resource 'w@p.iam.gserviceaccount.com' of type 'serviceAccount' was not found.",
        ACCOUNT,
        HOUR,
        "gcp.service_account",
    ),
]


@pytest.mark.parametrize(("status", "reason", "message", "scope", "pause", "advice"), RESPONSES)
def test_translate_errors_of_refused_insertion_has_scope_delay_and_advice(
    status: int, reason: str, message: str, scope: RefusalScope, pause: timedelta, advice: str
) -> None:
    with pytest.raises(LaunchRefusedError) as refused, translate_errors("start it", launching=True):
        raise response(status, reason, message)
    assert (refused.value.scope, refused.value.retry_after, refused.value.reason) == (scope, pause, reason)
    assert refused.value.needs_action is (pause >= HOUR or (scope, pause) == (ACCOUNT, 10 * MINUTE))
    assert advice or not refused.value.needs_action
    assert bool(refused.value.hint) is bool(advice)
    assert advice in refused.value.hint


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "resourceNotReady"),
        (400, "resourceInUseByAnotherResource"),
        (400, "operationInProgress"),
        (412, "conditionNotMet"),
        (403, "rateLimitExceeded"),
        (403, "quotaExceeded"),
        (408, "timeout"),
        (409, "conflict"),
    ],
)
def test_translate_errors_of_busy_resource_is_transient(status: int, reason: str) -> None:
    with pytest.raises(ProviderError) as failed, translate_errors("delete the instance ct-1"):
        raise response(status, reason, "The resource is not ready")
    assert failed.value.transient
    assert failed.value.message == f"cannot delete the instance ct-1: {reason}: The resource is not ready"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
@pytest.mark.parametrize("reason", ["backendError", "internalError", "timeout", "unknown"])
@pytest.mark.parametrize("launching", [True, False])
def test_translate_errors_of_server_error_is_transient(status: int, reason: str, launching: bool) -> None:
    with pytest.raises(ProviderError) as failed, translate_errors("start it", launching=launching):
        raise response(status, reason, "The service is currently unavailable: machine type, network and disk type")
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
        pytest.raises(NotFoundError, match="cannot read x: notFound: The resource 'x' was not found"),
        translate_errors("read x"),
    ):
        raise response(404, "notFound", "The resource 'x' was not found.")


def test_problem_of_message_is_one_line_without_url() -> None:
    problem = problem_of(response(400, "invalid", "POST https://compute.googleapis.com/x: Invalid\n  value."))
    assert problem.message == "Invalid value"
    assert not re.search(r"https?://", str(launch_error("start it", problem)))


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


@pytest.mark.parametrize("code", ["NO_RESULTS_ON_PAGE", "DEPRECATED_TYPE_USED"])
def test_silent_zones_accepts_zone_that_is_empty_or_lists_deprecated_types(code: str) -> None:
    nothing = sdk.InstancesScopedList(warning=sdk.Warning(code=code))
    page = sdk.InstanceAggregatedList(items={"zones/z": nothing}, warning=sdk.Warning(code=code))
    assert silent_zones(page, "list instances", lambda place: True) == set()
