"""Explanations of Google's error responses."""

from __future__ import annotations

from typing import Any

import pytest
from billing_fake import google_error

from cloud_tasks_gcp.explain import Explanation, explain


def explained(status: int, reason: str, message: str, **metadata: str) -> Explanation:
    return explain(
        status,
        google_error(status, reason, message, metadata=metadata).body,
        service="pubsub.googleapis.com",
        project="p",
    )


def old_style(status: int, reason: str, message: str) -> Explanation:
    """Explain an error in the older format that Compute Engine uses."""
    error = {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}
    return explain(status, {"error": error}, service="compute.googleapis.com", project="p")


@pytest.mark.parametrize(
    "found",
    [
        explained(403, "SERVICE_DISABLED", "It is disabled.", service="pubsub.googleapis.com"),
        explain(
            403,
            {"error": {"errors": [{"reason": "accessNotConfigured"}]}},
            service="pubsub.googleapis.com",
            project="p",
        ),
    ],
    ids=["new", "old"],
)
def test_explain_disabled_service(found: Explanation) -> None:
    assert found.message == "the Pub/Sub API is disabled in project p"
    assert found.remedy == "run: gcloud services enable pubsub.googleapis.com --project p, and wait a minute"
    assert not found.transient


def test_explain_disabled_service_other_than_called() -> None:
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
def test_explain_missing_permission(found: Explanation) -> None:
    assert found.message.startswith("permission pubsub.topics.create is missing for the ")
    assert "doctor --policy" in found.remedy
    assert not found.transient


def test_explain_refusal_without_permission_quotes_message() -> None:
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
def test_explain_has_remedy(found: Explanation, message: str, remedy: str) -> None:
    assert found.message == message
    assert remedy in found.remedy
    assert not found.transient


@pytest.mark.parametrize(
    "found",
    [
        explained(429, "RATE_LIMIT_EXCEEDED", "Quota exceeded."),
        old_style(403, "rateLimitExceeded", "Rate Limit Exceeded"),
        explain(503, None, service="pubsub.googleapis.com"),
        explain(500, "a page of HTML", service="pubsub.googleapis.com"),
        explain(502, {"error": "text"}, service="pubsub.googleapis.com"),
    ],
)
def test_explain_transient_errors(found: Explanation) -> None:
    assert found.transient
    assert found.message.startswith("the ")


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"error": None}, {"error": {"details": ["x"]}}])
def test_explain_accepts_any_body(answer: Any) -> None:
    found = explain(400, answer, service="unknown.googleapis.com")
    assert found.message == "the unknown.googleapis.com returned HTTP 400"
    assert not found.transient


def test_explain_truncates_long_message_to_one_line() -> None:
    found = explained(400, "INVALID_ARGUMENT", "a\nlong " + "story " * 1000)
    assert "\n" not in found.message
    assert len(found.message) < 300
