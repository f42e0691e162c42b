"""What is made of Google's error answers."""

from __future__ import annotations

from typing import Any

import pytest
from billing_fake import google_error

from cloud_tasks_gcp.explain import Explanation, explain


def because(status: int, reason: str, message: str, **metadata: str) -> Explanation:
    return explain(
        status,
        google_error(status, reason, message, metadata=metadata).body,
        service="pubsub.googleapis.com",
        project="p",
    )


def old_style(status: int, reason: str, message: str) -> Explanation:
    """As Compute Engine still answers."""
    error = {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}
    return explain(status, {"error": error}, service="compute.googleapis.com", project="p")


@pytest.mark.parametrize(
    "found",
    [
        because(403, "SERVICE_DISABLED", "It is disabled.", service="pubsub.googleapis.com"),
        explain(
            403,
            {"error": {"errors": [{"reason": "accessNotConfigured"}]}},
            service="pubsub.googleapis.com",
            project="p",
        ),
    ],
    ids=["new", "old"],
)
def test_a_service_that_is_off(found: Explanation) -> None:
    assert found.message == "the Pub/Sub API is off in the project p"
    assert found.remedy == "run: gcloud services enable pubsub.googleapis.com --project p, and wait a minute"
    assert not found.transient


def test_the_service_that_is_off_need_not_be_the_one_that_was_called() -> None:
    found = because(403, "SERVICE_DISABLED", "It is disabled.", service="iamcredentials.googleapis.com")
    assert found.message.startswith("the IAM Service Account Credentials API is off")


@pytest.mark.parametrize(
    "found",
    [
        because(403, "IAM_PERMISSION_DENIED", "User not authorized.", permission="pubsub.topics.create"),
        because(403, "PERMISSION_DENIED", "Permission 'pubsub.topics.create' denied on resource"),
        old_style(403, "forbidden", "Required 'pubsub.topics.create' permission for 'projects/p'"),
    ],
    ids=["in the details", "in the message", "old"],
)
def test_a_permission_that_is_missing(found: Explanation) -> None:
    assert found.message.startswith("the permission pubsub.topics.create is missing for the ")
    assert "doctor --policy" in found.remedy
    assert not found.transient


def test_a_refusal_that_names_no_permission_gives_googles_own_words() -> None:
    found = because(403, "PERMISSION_DENIED", "The caller does not have permission")
    assert found.message.endswith("in the project p: The caller does not have permission")


@pytest.mark.parametrize(
    ("found", "message", "remedy"),
    [
        (because(403, "BILLING_DISABLED", "Billing."), "the project p has no billing account", "gcloud billing"),
        (
            because(403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Scopes."),
            "the credentials were made without the scope that the Pub/Sub API asks for",
            "gcloud auth application-default login",
        ),
        (
            because(404, "NOT_FOUND", "Requested project not found or user does not have access to it (project=p)."),
            "the project p does not exist, or these credentials may not use it",
            "gcloud projects list",
        ),
        (
            because(403, "USER_PROJECT_DENIED", "Caller does not have required permission to use project p."),
            "the project p does not exist, or these credentials may not use it",
            "gcloud projects list",
        ),
        (
            because(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
            "the Pub/Sub API did not accept the credentials",
            "gcloud auth application-default login",
        ),
    ],
)
def test_what_is_missing_comes_with_the_command(found: Explanation, message: str, remedy: str) -> None:
    assert found.message == message
    assert remedy in found.remedy
    assert not found.transient


@pytest.mark.parametrize(
    "found",
    [
        because(429, "RATE_LIMIT_EXCEEDED", "Quota exceeded."),
        old_style(403, "rateLimitExceeded", "Rate Limit Exceeded"),
        explain(503, None, service="pubsub.googleapis.com"),
        explain(500, "a page of HTML", service="pubsub.googleapis.com"),
        explain(502, {"error": "text"}, service="pubsub.googleapis.com"),
    ],
)
def test_what_passes_is_called_so(found: Explanation) -> None:
    assert found.transient
    assert found.message.startswith("the ")


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"error": None}, {"error": {"details": ["x"]}}])
def test_an_answer_of_any_shape_is_explained(answer: Any) -> None:
    found = explain(400, answer, service="unheard.googleapis.com")
    assert found.message == "the unheard.googleapis.com answered 400"
    assert not found.transient


def test_a_long_answer_is_cut_to_one_line() -> None:
    found = because(400, "INVALID_ARGUMENT", "a\nlong " + "story " * 1000)
    assert "\n" not in found.message
    assert len(found.message) < 300
