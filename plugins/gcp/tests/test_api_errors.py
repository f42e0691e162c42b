"""ProviderErrors of Google's error responses."""

from __future__ import annotations

from typing import Any

import pytest
from billing_fake import google_error
from google.api.error_reason_pb2 import ErrorReason  # type: ignore[import-untyped]  # it has no stubs

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError
from cloud_tasks_gcp.api_errors import ConflictError, DeniedError, DisabledError, UnknownNameError, api_error


def explained(status: int, reason: str, message: str, **metadata: str) -> ProviderError:
    return api_error(
        status,
        google_error(status, reason, message, metadata=metadata).body,
        service="pubsub.googleapis.com",
        project="p",
    )


def old_style(status: int, reason: str, message: str) -> ProviderError:
    """Return the error of the older format that Compute Engine uses."""
    error = {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}
    return api_error(status, {"error": error}, service="compute.googleapis.com", project="p")


@pytest.mark.parametrize(
    "found",
    [
        explained(403, "SERVICE_DISABLED", "It is disabled.", service="pubsub.googleapis.com"),
        api_error(
            403,
            {"error": {"errors": [{"reason": "accessNotConfigured"}]}},
            service="pubsub.googleapis.com",
            project="p",
        ),
    ],
    ids=["new", "old"],
)
def test_api_error_disabled_service(found: ProviderError) -> None:
    assert found.message == "the Pub/Sub API is disabled in project p"
    assert found.hint == "run: gcloud services enable pubsub.googleapis.com --project p, and wait a minute"
    assert not found.transient


def test_api_error_disabled_service_other_than_called() -> None:
    found = explained(403, "SERVICE_DISABLED", "It is disabled.", service="iamcredentials.googleapis.com")
    assert found.message.startswith("the IAM Service Account Credentials API is disabled")


@pytest.mark.parametrize(
    "found",
    [
        explained(403, "IAM_PERMISSION_DENIED", "User not authorized.", permission="pubsub.topics.create"),
        explained(403, "PERMISSION_DENIED", "Permission 'pubsub.topics.create' denied on resource"),
        old_style(403, "forbidden", "Required 'pubsub.topics.create' permission for 'projects/p'"),
    ],
    ids=["in the details", "in the message", "old"],
)
def test_api_error_missing_permission(found: ProviderError) -> None:
    assert found.message.startswith("permission pubsub.topics.create is missing for the ")
    assert "doctor --policy" in found.hint
    assert not found.transient


def test_api_error_refusal_without_permission_quotes_message() -> None:
    found = explained(403, "PERMISSION_DENIED", "The caller does not have permission")
    assert found.message.endswith("in project p: The caller does not have permission")


@pytest.mark.parametrize(
    ("found", "message", "remedy"),
    [
        (explained(403, "BILLING_DISABLED", "Billing."), "project p has no billing account", "gcloud billing"),
        (
            explained(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Scopes."),
            "the credentials lack the access scope of the Pub/Sub API",
            "gcloud auth application-default login",
        ),
        (
            explained(404, "NOT_FOUND", "Requested project not found or user does not have access to it (project=p)."),
            "project p does not exist or is not accessible with these credentials",
            "gcloud projects list",
        ),
        (
            explained(403, "USER_PROJECT_DENIED", "Caller does not have required permission to use project p."),
            "project p does not exist or is not accessible with these credentials",
            "gcloud projects list",
        ),
        (
            explained(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
            "the Pub/Sub API rejected the credentials",
            "gcloud auth application-default login",
        ),
    ],
)
def test_api_error_has_remedy(found: ProviderError, message: str, remedy: str) -> None:
    assert found.message == message
    assert remedy in found.hint
    assert not found.transient


@pytest.mark.parametrize(
    "found",
    [
        explained(429, "RATE_LIMIT_EXCEEDED", "Quota exceeded."),
        old_style(403, "rateLimitExceeded", "Rate Limit Exceeded"),
        old_style(403, "quotaExceeded", "Quota 'CPUS' exceeded"),
        api_error(503, None, service="pubsub.googleapis.com"),
        api_error(500, "a page of HTML", service="pubsub.googleapis.com"),
        api_error(502, {"error": "text"}, service="pubsub.googleapis.com"),
    ],
)
def test_api_error_transient_errors(found: ProviderError) -> None:
    assert found.transient
    assert found.message.startswith("the ")


def test_api_error_of_quota_does_not_advise_about_instances() -> None:
    found = explained(429, "RESOURCE_QUOTA_EXCEEDED", "Quota exceeded.")
    assert "Quotas" in found.hint
    assert "instances" not in found.hint


@pytest.mark.parametrize("name", ["cloud-tasks-my-project-1", "projects/my-project/topics/project"])
def test_api_error_of_resource_whose_name_has_project_is_not_about_the_project(name: str) -> None:
    found = explained(404, "NOT_FOUND", f"Resource not found (resource={name}).")
    assert isinstance(found, NotFoundError)
    assert found.message == f"the Pub/Sub API returned HTTP 404: Resource not found (resource={name})"


ORGANIZATION, ACCOUNT = "a policy of the organization denies", "rejected the credentials"
REASONS = {
    "ACCESS_TOKEN_EXPIRED": ACCOUNT,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "lack the access scope",
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": ACCOUNT,
    "ACCOUNT_STATE_INVALID": ACCOUNT,
    "ACCOUNT_TYPE_UNSUPPORTED": ACCOUNT,
    "BILLING_DISABLED": "has no billing account",
    "CONSUMER_INVALID": "does not exist",
    "CONSUMER_SUSPENDED": "is suspended",
    "CREDENTIALS_MISSING": ACCOUNT,
    "CREDENTIAL_TYPE_UNSUPPORTED": ACCOUNT,
    "ENDPOINT_USAGE_RESTRICTION_VIOLATED": ORGANIZATION,
    "EMULATOR_QUOTA_EXCEEDED": "returned HTTP 403",
    "GCP_SUSPENDED": "is suspended",
    "JWT_TOKEN_INVALID": ACCOUNT,
    "LOCATION_ORG_POLICY_VIOLATED": ORGANIZATION,
    "LOCATION_POLICY_VIOLATED": ORGANIZATION,
    "LOCATION_TAX_POLICY_VIOLATED": ORGANIZATION,
    "ORG_RESTRICTION_HEADER_INVALID": ORGANIZATION,
    "ORG_RESTRICTION_VIOLATION": ORGANIZATION,
    "RATE_LIMIT_EXCEEDED": "returned HTTP 403",
    "RESOURCE_QUOTA_EXCEEDED": "returned HTTP 403",
    "RESOURCE_PROJECT_INVALID": "does not exist",
    "RESOURCE_USAGE_RESTRICTION_VIOLATED": ORGANIZATION,
    "SECURITY_POLICY_VIOLATED": ORGANIZATION,
    "SERVICE_DISABLED": "is disabled",
    "TLS_CIPHER_RESTRICTION_VIOLATED": ORGANIZATION,
    "TLS_ORG_POLICY_VIOLATED": ORGANIZATION,
    "USER_BLOCKED_BY_ADMIN": ACCOUNT,
    "USER_PROJECT_DENIED": "does not exist",
}
"""Reasons that are no missing permission, with a part of the message."""


def test_api_error_of_every_reason_advises_a_role_for_missing_permissions_only() -> None:
    for reason in dict(ErrorReason.items()):
        found = explained(403, reason, "Request is denied.")
        expected = REASONS.get(reason, "a permission is missing")
        assert expected in found.message
        assert found.hint or found.transient
        assert isinstance(found, DeniedError) is ("doctor --policy" in found.hint) is (reason not in REASONS)
        assert isinstance(found, CredentialsError) is (expected == ACCOUNT)


@pytest.mark.parametrize(
    "message",
    [
        "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: x",
        "Constraint constraints/gcp.resourceLocations violated for projects/p",
    ],
)
def test_api_error_of_policy_without_reason_names_the_policy(message: str) -> None:
    assert ORGANIZATION in explained(400, "FAILED_PRECONDITION", message).message


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"error": None}, {"error": {"details": ["x"]}}])
def test_api_error_accepts_any_body(answer: Any) -> None:
    found = api_error(400, answer, service="unknown.googleapis.com")
    assert found.message == "the unknown.googleapis.com returned HTTP 400"
    assert not found.transient


def test_api_error_truncates_long_message_to_one_line() -> None:
    found = explained(400, "INVALID_ARGUMENT", "a\nlong " + "story " * 1000)
    assert "\n" not in found.message
    assert len(found.message) < 300


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (explained(403, "SERVICE_DISABLED", "It is disabled."), DisabledError),
        (explained(409, "", "There were concurrent policy changes."), ConflictError),
        (old_style(409, "conflict", "The bucket you tried to delete is not empty."), ConflictError),
        (old_style(412, "conditionNotMet", "At least one of the pre-conditions did not hold."), ConflictError),
        (old_style(412, "conditionNotMet", "'us' violates constraint 'constraints/gcp.resourceLocations'"), None),
        (explained(400, "", "Service account w@p.iam.gserviceaccount.com does not exist."), UnknownNameError),
        (explained(400, "", "Role (projects/p/roles/r) does not exist in the resource's hierarchy."), UnknownNameError),
        (explained(404, "", "Service account does not exist."), NotFoundError),
    ],
)
def test_api_error_of_a_write_says_whether_to_read_again(
    found: ProviderError, kind: type[ProviderError] | None
) -> None:
    assert type(found) is (kind or ProviderError)
    assert not found.transient


def test_api_error_of_a_service_that_needs_billing_names_the_command() -> None:
    text = "Billing account for project '1234' is not found."
    found = explained(400, "UREQ_PROJECT_BILLING_NOT_FOUND", text)
    assert found.message == "project p has no billing account"
    assert found.hint.startswith("run: gcloud billing projects link p")
