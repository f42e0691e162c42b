"""Explanation of Google's error responses in one line, with the command that fixes the error.

Sources: Google's API design guide AIP-193 (``error.details`` with ``ErrorInfo``), the list of its reasons
(``google/api/error_reason.proto``), and the older ``error.errors[].reason`` of Compute Engine's API.

Invariant, with a test: of a response the text contains only service, permission, project and Google's message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Explanation", "explain"]

_TITLES: Mapping[str, str] = {
    "cloudbilling.googleapis.com": "Cloud Billing API",
    "cloudresourcemanager.googleapis.com": "Cloud Resource Manager API",
    "compute.googleapis.com": "Compute Engine API",
    "iam.googleapis.com": "IAM API",
    "iamcredentials.googleapis.com": "IAM Service Account Credentials API",
    "monitoring.googleapis.com": "Cloud Monitoring API",
    "pubsub.googleapis.com": "Pub/Sub API",
    "storage.googleapis.com": "Cloud Storage API",
}

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_NAME = r"['\"]?\b([a-z]+\.[A-Za-z]+\.[A-Za-z]+)\b['\"]?"
_PERMISSION = re.compile(rf"{_NAME} permission|[Pp]ermission {_NAME}")
_LENGTH = 200


@attrs.frozen(kw_only=True)
class Explanation:
    """Reason and remedy of a failed call."""

    reason: str
    """Google's reason code, such as ``SERVICE_DISABLED``; else the status, such as ``PERMISSION_DENIED``."""
    message: str
    """One line, without a full stop."""
    remedy: str = ""
    """Command or step that fixes the error; empty when unknown."""
    transient: bool = False
    is_denied: bool = False
    """Whether a permission for the call is missing."""


def explain(status: int, answer: Any, *, service: str, project: str = "") -> Explanation:
    """Explain an error response.

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
    reason = str(info.get("reason") or _old_reason(error) or error.get("status") or f"HTTP {status}")
    service = str(metadata.get("service") or service)
    name, option = _TITLES.get(service, service), f" --project {project}" if project else ""
    if reason in ("SERVICE_DISABLED", "accessNotConfigured"):
        return Explanation(
            reason=reason,
            message=f"the {name} is disabled in {_project(project)}",
            remedy=f"run: gcloud services enable {service}{option}, and wait a minute",
        )
    if reason in ("BILLING_DISABLED", "billingNotEnabled") or "requires billing" in text.lower():
        return Explanation(
            reason=reason,
            message=f"{_project(project)} has no billing account",
            remedy=f"run: gcloud billing projects link {project or 'PROJECT'} --billing-account ACCOUNT",
        )
    if reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
        return Explanation(
            reason=reason,
            message=f"the credentials lack the access scope of the {name}",
            remedy="run: gcloud auth application-default login; on an instance, add the scope cloud-platform",
        )
    if reason in ("CONSUMER_INVALID", "RESOURCE_PROJECT_INVALID", "USER_PROJECT_DENIED") or (
        status == 404 and "project" in text.lower()
    ):
        return Explanation(
            reason=reason,
            message=f"{_project(project)} does not exist or is not accessible with these credentials",
            remedy="run: gcloud projects list, and pass the project's id (not its name) as --project-id",
        )
    if status == 401:
        return Explanation(
            reason=reason,
            message=f"the {name} rejected the credentials",
            remedy="run: gcloud auth application-default login",
        )
    if status == 403 and reason not in ("rateLimitExceeded", "RATE_LIMIT_EXCEEDED", "userRateLimitExceeded"):
        permission = str(metadata.get("permission") or _permission(text))
        missing = f"permission {permission}" if permission else "a permission"
        return Explanation(
            reason=reason,
            message=f"{missing} is missing for the {name} in {_project(project)}" + (f": {text}" if text else ""),
            remedy="run: cloud-tasks doctor --policy, and grant the account the printed role",
            is_denied=True,
        )
    transient = status in _TRANSIENT or status == 403
    return Explanation(
        reason=reason, message=f"the {name} returned HTTP {status}" + (f": {text}" if text else ""), transient=transient
    )


def _project(project: str) -> str:
    return f"project {project}" if project else "the project"


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
