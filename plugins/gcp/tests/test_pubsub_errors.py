"""Translation of Pub/Sub errors, and batch calls for ack ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from google.api_core import exceptions as api

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_gcp.queue.batch_ack import call_batch
from cloud_tasks_gcp.queue.pubsub_errors import translate_errors


def info(reason: str, **metadata: str) -> dict[str, Any]:
    return {"reason": reason, "domain": "googleapis.com", "metadata": metadata}


def translated(error: Exception) -> ProviderError:
    with pytest.raises(ProviderError) as caught, translate_errors("sending", "p"):
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        api.ServiceUnavailable("later"),
        api.DeadlineExceeded("slow"),
        api.InternalServerError("oops"),
        api.ResourceExhausted("too fast"),
        api.Aborted("again"),
        api.RetryError("gave up", api.ServiceUnavailable("later")),
    ],
)
def test_translate_errors_marks_transient_errors(error: Exception) -> None:
    assert translated(error).transient


def test_translate_errors_of_missing_queue_is_not_found() -> None:
    found = translated(api.NotFound("Resource not found (resource=addition)."))
    assert isinstance(found, NotFoundError)
    assert "addition" in str(found)


def test_translate_errors_names_missing_permission() -> None:
    error = api.PermissionDenied(
        "User not authorized.", error_info=info("IAM_PERMISSION_DENIED", permission="pubsub.topics.publish")
    )
    found = translated(error)
    assert not found.transient
    assert "pubsub.topics.publish" in found.message
    assert "doctor" in found.hint


def test_translate_errors_of_disabled_api_has_fix() -> None:
    error = api.PermissionDenied("off", error_info=info("SERVICE_DISABLED", service="pubsub.googleapis.com"))
    assert "gcloud services enable pubsub.googleapis.com" in translated(error).hint


@pytest.mark.parametrize(("text", "transient"), [("invalid_grant: SECRET", False), ("connection reset: SECRET", True)])
def test_translate_errors_omits_token_server_response(text: str, transient: bool) -> None:
    found = translated(api.ServiceUnavailable(f"Getting metadata from plugin failed with error: {text}"))
    assert "SECRET" not in str(found)
    assert found.transient is transient


# Ack ids


class Subscription:
    """Subscription that raises the given errors in turn."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[list[str]] = []

    def __call__(self, ack_ids: Sequence[str]) -> None:
        self.calls.append(list(ack_ids))
        if self.errors:
            raise self.errors.pop(0)


class StrictSubscription(Subscription):
    """Subscription that refuses a whole call for one invalid id."""

    def __call__(self, ack_ids: Sequence[str]) -> None:
        super().__call__(ack_ids)
        if "invalid" in ack_ids:
            raise api.InvalidArgument("You have passed an invalid ack ID")


def test_call_batch_retries_transient_failures_only() -> None:
    failures = info("x", b="PERMANENT_FAILURE_INVALID_ACK_ID", c="TRANSIENT_FAILURE_UNORDERED_ACK_ID")
    subscription = Subscription(api.FailedPrecondition("some failed", error_info=failures))
    assert call_batch(subscription, ["a", "b", "c"], sleep=lambda _: None) == ["b"]
    assert subscription.calls == [["a", "b", "c"], ["c"]]


def test_call_batch_raises_after_max_attempts() -> None:
    failures = info("x", a="TRANSIENT_FAILURE_INTERNAL")
    subscription = Subscription(*[api.ServiceUnavailable("later", error_info=failures) for _ in range(10)])
    with pytest.raises(api.ServiceUnavailable):
        call_batch(subscription, ["a"], sleep=lambda _: None)
    assert len(subscription.calls) == 4


def test_call_batch_isolates_invalid_id() -> None:
    subscription = StrictSubscription()
    assert call_batch(subscription, ["a", "b", "invalid", "c", "d"]) == ["invalid"]
    settled = {each for call in subscription.calls if "invalid" not in call for each in call}
    assert settled == {"a", "b", "c", "d"}


def test_call_batch_raises_other_errors() -> None:
    with pytest.raises(api.PermissionDenied):
        call_batch(Subscription(api.PermissionDenied("no")), ["a", "b"])
