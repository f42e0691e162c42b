"""Classification of Compute Engine errors: which launches to avoid, for how long, and whether to retry.

Invariants, each with a test:

1. No SDK exception leaves this package: each becomes a `ProviderError`, `NotFoundError` or `LaunchRefusedError`.
2. A failed operation never raises a plain transient error: a request with the same id returns the same failed
   operation. The launch is refused, and the next one has a new token.
3. The scope of a quota error is the reach of its metric: a machine type, a region, or the account.
4. A refusal that a person has to end says how.

Sources in the Compute Engine documentation: "Resource errors" (stock-outs), "Allocation quotas" and "API rate limits"
(quota metrics and their scopes, reasons), "Troubleshooting VM creation", "Troubleshooting bulk VM creation",
"Organization policy constraints", and the operations resource's error codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import attrs
import google.auth.exceptions
import requests
from google.api_core import exceptions as api
from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]  # it has no stubs

from cloud_tasks.errors import CredentialsError, ProviderError, RefusalScope
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem, judge, matching_rule, refused
from cloud_tasks_gcp.api_errors import LOGIN, QUOTA, common_rules, enable_billing, enable_service
from cloud_tasks_gcp.responses import PROXY, InvalidResponseError

__all__ = [
    "OPERATION_FAILED",
    "SERVICE",
    "after_launch_request",
    "is_transient",
    "launch_error",
    "problem_of",
    "problems_of_operation",
    "translate_errors",
]

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_OFFER, _TYPE, _ZONE = RefusalScope.OFFER, RefusalScope.INSTANCE_TYPE, RefusalScope.ZONE
_REGION, _ACCOUNT = RefusalScope.REGION, RefusalScope.ACCOUNT

_PERMISSION = "PERMISSIONS_ERROR|FORBIDDEN|insufficientPermissions|IAM_PERMISSION_DENIED|HTTP_403"
_ACT_AS = "grant your account roles/iam.serviceAccountUser on the instances' service account"
_DOCTOR = "see: cloud-tasks doctor"
_QUOTA = f"{QUOTA}, or wait for running instances to finish"
_EXCLUDE = "exclude the type with instance_types"
_TYPES = f"choose other boot_disk_types, or {_EXCLUDE}"

SERVICE = "compute.googleapis.com"
OPERATION_FAILED = "OPERATION_FAILED"
"""Code of an operation that failed without one."""

_RATE = ErrorRule(
    kind=ErrorKind.TRANSIENT,
    code="(user_?)?rate_?limit_?exceeded|concurrent_?operations.*|.*operation_?rate.*|HTTP_429",
)
_BUSY = ErrorRule(
    kind=ErrorKind.TRANSIENT,
    code="resource_?not_?ready|resource_?in_?use_?by_?another_?resource|operation_?in_?progress|condition_?not_?met|"
    "HTTP_412|HTTP_409|HTTP_408",
)
"""Another operation on the resource is under way."""
_SHARED = common_rules(SERVICE)
_DENIED = (
    # Code, message, remedy.
    ("HTTP_403", "has not been used in project", enable_service(SERVICE)),
    ("HTTP_403|PERMISSIONS_ERROR", "billing", enable_billing(SERVICE)),
    ("SERVICE_ACCOUNT_ACCESS_DENIED", "", _ACT_AS),
    (".*", "SERVICE_ACCOUNT_ACCESS_DENIED|serviceAccounts.actAs|access to service account", _ACT_AS),
    (_PERMISSION, "organization('s|s)? policy", "ask the administrator of the organization to allow the call"),
    (_PERMISSION, "^service account .* disabled", "enable it, or set gcp.service_account to another one"),
    (_PERMISSION, "images.useReadOnly", "grant your account roles/compute.imageUser in the project of the image"),
    (_PERMISSION, "networks.use", f"grant your account roles/compute.networkUser on the subnetwork; {_DOCTOR}"),
    (_PERMISSION, "", f"grant roles/compute.instanceAdmin.v1 in the project; {_DOCTOR}"),
)

_STOCK_OUT = "RESOURCE_POOL_EXHAUSTED|STOCKOUT|not have enough resources|instance is currently unavailable"
_CAPACITY = (
    refused("REGION_RESOURCE_POOL_EXHAUSTED.*", _TYPE, 10 * _MINUTE),
    refused(".*(RESOURCE_POOL_EXHAUSTED|STOCKOUT).*|insufficientCapacity", _OFFER, 10 * _MINUTE),
    refused(".*", _OFFER, 10 * _MINUTE, message=_STOCK_OUT),
    refused("IP_SPACE_EXHAUSTED.*", _REGION, 10 * _MINUTE, hint="set gcp.subnetwork to a larger one"),
    refused(_RATE.code, _ACCOUNT, _MINUTE / 2),
)
_QUOTAS = (
    refused("quota:.*:PREEMPTIBLE_CPUS.*", _REGION, 10 * _MINUTE, hint=_QUOTA),
    # Instances without GPUs may still fit.
    refused("quota:.*:.*GPUS_ALL_REGIONS.*", _TYPE, 10 * _MINUTE, hint=_QUOTA),
    refused("quota:.*:.*ALL_REGIONS.*|quota:global:.*", _ACCOUNT, 10 * _MINUTE, hint=_QUOTA),
    # Other series have separate quotas, and a smaller instance type of this series may still fit.
    refused(r"quota:.*:.*(CPUS|GPUS?|VM_FAMILY|GPU_FAMILY|LOCAL_SSD\w*)", _TYPE, 10 * _MINUTE, hint=_QUOTA),
    # Other types may have disks of another quota.
    refused(
        r"quota:.*:(DISKS|SSD|HD[A-Z]+)_TOTAL\w*|quota:.*:PD_EXTREME\w*",
        _TYPE,
        10 * _MINUTE,
        hint=f"{_QUOTA}; other boot_disk_types have other quotas",
    ),
    refused("daily_?limit_?exceeded.*", _ACCOUNT, _HOUR, hint=_QUOTA),
    refused("quota:.*|.*(QUOTA|LIMIT)_?EXCEEDED", _REGION, 10 * _MINUTE, hint=_QUOTA),
)
_POLICIES = tuple(
    refused(
        "condition_?not_?met|HTTP_412",
        scope,
        pause,
        message=message,
        hint=f"an organization policy denies {what}",
        needs_action=True,
    )
    for scope, pause, message, what in (
        (_REGION, _DAY, "gcp.resourceLocations", "the region: choose another --region"),
        (
            _ACCOUNT,
            _HOUR,
            "vmExternalIpAccess",
            "external addresses: set gcp.external_address to false, with Cloud NAT",
        ),
        (_ACCOUNT, _HOUR, "trustedImageProjects", "the image: set run.image to one of an allowed project"),
        (_ACCOUNT, _HOUR, "requireShieldedVm", "other VMs than Shielded VMs: see gcp.shielded_secure_boot"),
        (_ACCOUNT, _HOUR, "", "the launch: ask its administrator, or change the gcp settings"),
    )
)
_REQUEST = r"\w*NOT_?FOUND|INVALID.*|required|HTTP_40[04]"
_INVALID = (
    refused(
        ".*", _TYPE, _DAY, message="architecture .*not compatible", hint="set run.image to one for this architecture"
    ),
    refused(
        ".*", _ACCOUNT, _HOUR, message="smaller than the image", hint="raise run.total_boot_disk_size to this size"
    ),
    refused(
        ".*", _TYPE, _DAY, message="provisioning_?model|preemptible|live migration|onHostMaintenance", hint=_EXCLUDE
    ),
    refused("UNSUPPORTED_OPERATION|INVALID_USAGE|.*BAD_DISK.*|.*NOT_SUPPORTED.*", _TYPE, _DAY, hint=_TYPES),
    # A disk type that its zone lacks, then one that the machine type cannot use.
    refused(".*", _OFFER, _DAY, message="disk ?types?.*(not|cannot be) found", hint=_TYPES),
    refused(".*", _TYPE, _DAY, message="disk ?type", hint=_TYPES),
    refused(".*", _OFFER, _DAY, message="machine ?type", hint=_EXCLUDE),
    refused(".*", _TYPE, _DAY, message="not compatible|accelerator", hint=_TYPES),
    refused(
        ".*",
        _ZONE,
        _DAY,
        message=r"unknown zone|'(projects/[^/']+/)?zones/[^/']+' was not found",
        hint="check run.zone",
    ),
    # What follows fails every launch.
    refused(_REQUEST, _ACCOUNT, _HOUR, message="service ?account", hint="check gcp.service_account"),
    refused(
        _REQUEST,
        _ACCOUNT,
        _HOUR,
        message="provisioned_?(iops|throughput)|disk_?size",
        hint="check run.boot_disk_iops, run.boot_disk_throughput and run.total_boot_disk_size",
    ),
    refused(_REQUEST, _ACCOUNT, _HOUR, message="network", hint="check gcp.network, gcp.subnetwork and gcp.tags"),
    refused(_REQUEST, _ACCOUNT, _HOUR, hint="check the gcp settings and run.image"),
)
"""Invalid requests, which only a person can change."""


def _for_launch(rule: ErrorRule) -> ErrorRule:
    """Return the rule of a shared reason for launches."""
    if rule.kind is not ErrorKind.PERMANENT:
        return rule
    return refused(rule.code, _ACCOUNT, _HOUR, message=rule.message, hint=rule.hint)


_LAUNCH: tuple[ErrorRule, ...] = (
    *_CAPACITY,
    *_QUOTAS,
    *(_for_launch(rule) for rule in _SHARED),
    *(refused(code, _ACCOUNT, _HOUR, message=message, hint=hint) for code, message, hint in _DENIED),
    *_POLICIES,
    ErrorRule(kind=ErrorKind.TRANSIENT, code="HTTP_5..|HTTP_408"),
    # Another operation with the resource of this name, or none that is known: the next launch has another name.
    refused(
        f"{_BUSY.code}|(resource_?)?already_?exists|internal_?error|unknown|{OPERATION_FAILED}",
        _OFFER,
        2 * _MINUTE,
    ),
    *(attrs.evolve(rule, needs_action=True) for rule in _INVALID),
)
_OTHERS: tuple[ErrorRule, ...] = (
    _RATE,
    ErrorRule(kind=ErrorKind.TRANSIENT, code=".*(quota|limit)_?exceeded"),
    *_SHARED,
    _BUSY,
    *(ErrorRule(kind=ErrorKind.PERMANENT, code=code, message=message, hint=hint) for code, message, hint in _DENIED),
    ErrorRule(kind=ErrorKind.NOT_FOUND, code="HTTP_404"),
)
"""Errors of other calls than launches."""
_UNKNOWN = refused(".*", _OFFER, 5 * _MINUTE)
_TRANSIENT_ERRORS = (
    api.InternalServerError,
    api.BadGateway,
    api.ServiceUnavailable,
    api.GatewayTimeout,
    requests.ConnectionError,
    requests.Timeout,
)
_MESSAGE_QUOTA = re.compile(r"Quota (limit )?'(?P<metric>[A-Z0-9_a-z./-]+)' (has been )?exceeded")


def problem_of(error: api.GoogleAPICallError) -> Problem:
    """Return the problem reported by an error response, with the HTTP status as a further code."""
    reasons = [str(each.get("reason", "")) for each in error.errors or () if isinstance(each, Mapping)]
    # The SDK prefixes the API's message with method and address.
    message = re.sub(r"^(GET|POST|PUT|PATCH|DELETE) https?://\S+: ", "", str(error.message or ""))
    status = int(error.code or 0)
    code = error.reason or (reasons[0] if reasons else "") or f"HTTP_{status}"
    return _with_quota(Problem(code=code, message=message, status=status, also=(f"HTTP_{status}",)))


def problems_of_operation(errors: Sequence[Any]) -> tuple[Problem, ...]:
    """Return the problems of an operation's ``error.errors``."""
    return tuple(
        _with_quota(Problem(code=each.code or OPERATION_FAILED, message=each.message), each) for each in errors
    )


def _with_quota(problem: Problem, error: Any = None) -> Problem:
    """Add the code of the exceeded quota, if any: ``quota:regional:N2_CPUS``."""
    for detail in getattr(error, "error_details", None) or ():
        info = detail.quota_info
        if info.metric_name or info.limit_name:
            return _quota_problem(problem, info.limit_name or info.metric_name, "region" in dict(info.dimensions))
    match = _MESSAGE_QUOTA.search(problem.message)
    if match is None:
        return problem
    return _quota_problem(problem, match["metric"], "globally" not in problem.message)


def _quota_problem(problem: Problem, limit: str, is_regional: bool) -> Problem:
    """Add the code of a quota, given by its metric or by the name of a limit: ``CPUS-per-project-region``."""
    metric = re.sub(r"-per-project(-region)?$", "", limit).replace("-", "_").upper()
    code = f"quota:{'regional' if is_regional else 'global'}:{metric}"
    is_named = metric in problem.message or limit in problem.message
    message = problem.message if is_named else f"{problem.message} (quota {metric})"
    return attrs.evolve(problem, also=(*problem.also, code), message=message)


def launch_error(what: str, problem: Problem) -> ProviderError:
    """Return the error of a launch that was answered with a problem."""
    return judge(f"cannot {what}", problem, _LAUNCH, default=_UNKNOWN)


def is_transient(error: BaseException) -> bool:
    """Return whether a read-only call may be retried at once: rate limit, server error or lost connection."""
    limited = isinstance(error, api.GoogleAPICallError) and matching_rule(problem_of(error), (_RATE,)) is not None
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
    except api.GoogleAPICallError as error:
        problem = problem_of(error)
        raise launch_error(what, problem) if launching else judge(f"cannot {what}", problem, _OTHERS) from error
    except api.RetryError as error:
        reason = (
            problem_of(error.cause).text if isinstance(error.cause, api.GoogleAPICallError) else "no answer in time"
        )
        raise ProviderError(f"cannot {what}: {reason}", transient=True) from error
    except google.auth.exceptions.TransportError as error:
        raise ProviderError(f"cannot {what}: the token server cannot be reached", transient=True) from error
    except google.auth.exceptions.GoogleAuthError as error:
        # The exception text may quote the token server's answer.
        text = f"cannot {what}: the credentials were refused ({type(error).__name__})"
        raise CredentialsError(text, hint=LOGIN) from error
    except (ParseError, InvalidResponseError) as error:
        text = str(error) if isinstance(error, InvalidResponseError) else f"invalid response from {SERVICE}"
        raise ProviderError(f"cannot {what}: {text}", transient=True, hint=PROXY) from error
    except (requests.RequestException, api.GoogleAPIError, ConnectionError, TimeoutError) as error:
        raise ProviderError(f"cannot {what}: {type(error).__name__}", transient=True) from error


@contextmanager
def after_launch_request() -> Iterator[None]:
    """Translate `CredentialsError` into a transient error: the instance may have been started."""
    try:
        yield
    except CredentialsError as error:
        raise ProviderError(error.message, transient=True, hint=error.hint) from error
