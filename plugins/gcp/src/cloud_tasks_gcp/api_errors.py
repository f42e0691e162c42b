"""Errors that all of Google's APIs have in common, as a table: each in one line, with the command that fixes it.

Sources: Google's API design guide AIP-193 (``error.details`` with ``ErrorInfo``), the list of its reasons
(``google/api/error_reason.proto``), and the older ``error.errors[].reason`` of Compute Engine's API.

Invariants, each with a test:

1. Of a response the text contains only service, permission, project and Google's message.
2. Only a refusal for a missing permission advises to grant one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError
from cloud_tasks.plugin.kit import ErrorKind, ErrorRule, Problem

__all__ = [
    "LOGIN",
    "QUOTA",
    "ConflictError",
    "DeniedError",
    "DisabledError",
    "UnknownNameError",
    "api_error",
    "common_rules",
    "enable_billing",
    "enable_service",
]

LOGIN = "run: gcloud auth application-default login"
"""Remedy for credentials that are missing, expired or refused."""
QUOTA = "request a higher quota at IAM & Admin > Quotas"

_TITLES: Mapping[str, str] = {
    "cloudbilling.googleapis.com": "Cloud Billing API",
    "cloudresourcemanager.googleapis.com": "Cloud Resource Manager API",
    "compute.googleapis.com": "Compute Engine API",
    "iam.googleapis.com": "IAM API",
    "iamcredentials.googleapis.com": "IAM Service Account Credentials API",
    "monitoring.googleapis.com": "Cloud Monitoring API",
    "pubsub.googleapis.com": "Pub/Sub API",
    "serviceusage.googleapis.com": "Service Usage API",
    "storage.googleapis.com": "Cloud Storage API",
}
_NAME = r"['\"]?\b([a-z]+\.[A-Za-z]+\.[A-Za-z]+)\b['\"]?"
_PERMISSION = re.compile(rf"{_NAME} permission|[Pp]ermission {_NAME}")
_LENGTH = 200


class DeniedError(ProviderError):
    """A permission for the call is missing."""


class DisabledError(ProviderError):
    """The service is not enabled in the project."""


class ConflictError(ProviderError):
    """The resource exists already, or was changed since it was read."""


class UnknownNameError(ProviderError):
    """A policy names an account or a role that does not exist, or was made a moment ago."""


@attrs.frozen
class _Meaning:
    """A row of the table. Texts may have the fields of `_fields`."""

    text: str
    hint: str
    code: str = ".*"
    """Reason, or HTTP status as ``HTTP_403``; as in `ErrorRule`."""
    message: str = ""
    kind: ErrorKind = ErrorKind.PERMANENT

    def rule(self, fields: Mapping[str, str]) -> ErrorRule:
        return ErrorRule(kind=self.kind, code=self.code, message=self.message, hint=self.hint.format_map(fields))


_ENABLE_SERVICE = "run: gcloud services enable {service}{option}, and wait a minute"
_ENABLE_BILLING = "run: gcloud billing projects link {id} --billing-account ACCOUNT, to enable billing"
_NO_BILLING = ("{project} has no billing account", _ENABLE_BILLING)
_NO_PROJECT = (
    "{project} does not exist or is not accessible with these credentials",
    "run: gcloud projects list, and pass the project's id (not its name) as --project-id",
)
_NOT_ALLOWED = (
    "a policy of the organization denies the call to the {api} in {project}",
    "ask the administrator of the organization to allow the service and the account",
)
_DISABLED = _Meaning(
    "the {api} is disabled in {project}",
    _ENABLE_SERVICE,
    "SERVICE_DISABLED|access_?not_?configured",
)
_COMMON = (
    _DISABLED,
    _Meaning(*_NO_BILLING, "BILLING_DISABLED|billing_?not_?enabled|UREQ_PROJECT_BILLING_\\w+"),
    _Meaning(*_NO_BILLING, message="requires billing|billing account"),
    _Meaning(
        "the credentials lack the access scope of the {api}",
        f"{LOGIN}; on an instance, add the scope cloud-platform",
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
    ),
    _Meaning(
        "{project} is suspended",
        "see the notices of the project in the console, or ask the administrator of the billing account",
        "CONSUMER_SUSPENDED|GCP_SUSPENDED",
    ),
    _Meaning(*_NO_PROJECT, "CONSUMER_INVALID|RESOURCE_PROJECT_INVALID|USER_PROJECT_DENIED"),
    _Meaning(*_NOT_ALLOWED, r"LOCATION_\w*VIOLATED|ORG_RESTRICTION_\w+|\w+_(POLICY|RESTRICTION)_VIOLATED"),
    _Meaning(
        "the {api} rejected the credentials",
        LOGIN,
        "ACCESS_TOKEN_EXPIRED|(ACCOUNT|CREDENTIAL|ACCESS_TOKEN)_TYPE_UNSUPPORTED|ACCOUNT_STATE_INVALID|authError|"
        "CREDENTIALS_MISSING|JWT_TOKEN_INVALID|USER_BLOCKED_BY_ADMIN|HTTP_401",
        kind=ErrorKind.CREDENTIALS,
    ),
)
"""Reasons that mean the same for every API."""
_RETURNED = "the {api} returned HTTP {status}{text}"
_CONFLICT = _Meaning(_RETURNED, "", "HTTP_(409|412)")
_UNKNOWN_NAME = _Meaning(_RETURNED, "", "HTTP_400", "does not exist")
_DENIED = _Meaning(
    "{permission} is missing for the {api} in {project}{text}",
    "run: cloud-tasks doctor --policy, and grant the account the printed role",
    "HTTP_403",
)
_OTHERS = (
    _Meaning(*_NO_PROJECT, "HTTP_404", r"(?<![-\w/])project(?![-\w])|'projects/[^/']+'", ErrorKind.NOT_FOUND),
    _Meaning(*_NOT_ALLOWED, message="constraints/|organization('s|s)? policy"),
    _Meaning(_RETURNED, QUOTA, r"\w*quota_?exceeded", kind=ErrorKind.TRANSIENT),
    _Meaning(_RETURNED, "", "(user_?)?rate_?limit_?exceeded|HTTP_(408|429|5..)", kind=ErrorKind.TRANSIENT),
    _Meaning(_RETURNED, "", "HTTP_404", kind=ErrorKind.NOT_FOUND),
    _DENIED,
    _CONFLICT,
    _UNKNOWN_NAME,
    _Meaning(_RETURNED, ""),
)
"""All other errors; Compute Engine has its own rules for them."""
_CLASSES = {ErrorKind.CREDENTIALS: CredentialsError, ErrorKind.NOT_FOUND: NotFoundError}
_OWN_CLASSES = {
    _DENIED: DeniedError,
    _DISABLED: DisabledError,
    _CONFLICT: ConflictError,
    _UNKNOWN_NAME: UnknownNameError,
}


def common_rules(service: str) -> tuple[ErrorRule, ...]:
    """Return the rules of the reasons that mean the same for every API, for a service."""
    return tuple(meaning.rule(_fields(service, "")) for meaning in _COMMON)


def enable_service(service: str) -> str:
    """Return the remedy for a service that is disabled in the project."""
    return _ENABLE_SERVICE.format_map(_fields(service, ""))


def enable_billing(service: str) -> str:
    """Return the remedy for a project without a billing account."""
    return _ENABLE_BILLING.format_map(_fields(service, ""))


def api_error(status: int, answer: Any, *, service: str, project: str = "") -> ProviderError:
    """Return the error of an error response; of the classes above where its meaning has one.

    Args:
        status: HTTP status.
        answer: JSON body, or anything else when the response had none.
        service: Called service: ``compute.googleapis.com``.
        project: Project id for the remedies; empty when unknown.
    """
    error = answer.get("error") if isinstance(answer, Mapping) else None
    error = error if isinstance(error, Mapping) else {}
    info = _error_info(error)
    metadata = info.get("metadata") or {}
    text = " ".join(str(error.get("message") or "").split())[:_LENGTH]
    code = str(info.get("reason") or _old_reason(error) or error.get("status") or "")
    problem = Problem(code=code, message=text, also=(f"HTTP_{status}",))
    permission = str(metadata.get("permission") or _permission(text))
    fields = {
        **_fields(str(metadata.get("service") or service), project),
        "status": str(status),
        "text": f": {text.rstrip('.')}" if text else "",
        "permission": f"permission {permission}" if permission else "a permission",
    }
    rules = ((meaning, meaning.rule(fields)) for meaning in (*_COMMON, *_OTHERS))
    meaning, rule = next((each, rule) for each, rule in rules if rule.matches(problem))
    error_class = _OWN_CLASSES.get(meaning) or _CLASSES.get(rule.kind, ProviderError)
    transient = rule.kind is ErrorKind.TRANSIENT
    return error_class(meaning.text.format_map(fields), transient=transient, hint=rule.hint)


def _fields(service: str, project: str) -> dict[str, str]:
    """Return what the texts name of a call."""
    return {
        "api": _TITLES.get(service, service),
        "service": service,
        "project": f"project {project}" if project else "the project",
        "id": project or "PROJECT",
        "option": f" --project {project}" if project else "",
    }


def _error_info(error: Mapping[str, Any]) -> Mapping[str, Any]:
    for detail in error.get("details") or ():
        if isinstance(detail, Mapping) and str(detail.get("@type", "")).endswith("google.rpc.ErrorInfo"):
            return detail
    return {}


def _old_reason(error: Mapping[str, Any]) -> str:
    for each in error.get("errors") or ():
        if isinstance(each, Mapping) and each.get("reason"):
            return str(each["reason"])
    return ""


def _permission(text: str) -> str:
    match = _PERMISSION.search(text)
    return next((group for group in match.groups() if group), "") if match else ""
