"""What Pub/Sub's errors mean, and what becomes of single ack ids."""

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


def meaning(error: Exception) -> ProviderError:
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
def test_passing_trouble_may_be_tried_again(error: Exception) -> None:
    assert meaning(error).transient


def test_a_queue_that_is_not_there_is_not_found() -> None:
    found = meaning(api.NotFound("Resource not found (resource=addition)."))
    assert isinstance(found, NotFoundError)
    assert "addition" in str(found)


def test_a_permission_that_is_missing_is_named() -> None:
    error = api.PermissionDenied(
        "User not authorized.", error_info=info("IAM_PERMISSION_DENIED", permission="pubsub.topics.publish")
    )
    found = meaning(error)
    assert not found.transient
    assert "pubsub.topics.publish" in found.message
    assert "doctor" in found.hint


def test_an_api_that_is_off_comes_with_the_command_that_turns_it_on() -> None:
    error = api.PermissionDenied("off", error_info=info("SERVICE_DISABLED", service="pubsub.googleapis.com"))
    assert "gcloud services enable pubsub.googleapis.com" in meaning(error).hint


@pytest.mark.parametrize(("text", "transient"), [("invalid_grant: SECRET", False), ("connection reset: SECRET", True)])
def test_what_the_token_server_said_is_not_shown(text: str, transient: bool) -> None:
    found = meaning(api.ServiceUnavailable(f"Getting metadata from plugin failed with error: {text}"))
    assert "SECRET" not in str(found)
    assert found.transient is transient


# Ack ids


class Subscription:
    """Answers calls with the errors it was given, in turn."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[list[str]] = []

    def __call__(self, ack_ids: Sequence[str]) -> None:
        self.calls.append(list(ack_ids))
        if self.errors:
            raise self.errors.pop(0)


class Strict(Subscription):
    """Refuses a whole call for one broken id."""

    def __call__(self, ack_ids: Sequence[str]) -> None:
        super().__call__(ack_ids)
        if "broken" in ack_ids:
            raise api.InvalidArgument("You have passed an invalid ack ID")


def test_an_exactly_once_subscription_is_asked_again_only_for_what_may_still_succeed() -> None:
    verdicts = info("x", b="PERMANENT_FAILURE_INVALID_ACK_ID", c="TRANSIENT_FAILURE_UNORDERED_ACK_ID")
    subscription = Subscription(api.FailedPrecondition("some failed", error_info=verdicts))
    assert call_batch(subscription, ["a", "b", "c"], sleep=lambda _: None) == ["b"]
    assert subscription.calls == [["a", "b", "c"], ["c"]]


def test_an_id_that_fails_again_and_again_is_told() -> None:
    verdicts = info("x", a="TRANSIENT_FAILURE_INTERNAL")
    subscription = Subscription(*[api.ServiceUnavailable("later", error_info=verdicts) for _ in range(10)])
    with pytest.raises(api.ServiceUnavailable):
        call_batch(subscription, ["a"], sleep=lambda _: None)
    assert len(subscription.calls) == 4


def test_a_broken_id_is_lost_alone() -> None:
    subscription = Strict()
    assert call_batch(subscription, ["a", "b", "broken", "c", "d"]) == ["broken"]
    settled = {each for call in subscription.calls if "broken" not in call for each in call}
    assert settled == {"a", "b", "c", "d"}


def test_other_trouble_is_raised_as_it_is() -> None:
    with pytest.raises(api.PermissionDenied):
        call_batch(Subscription(api.PermissionDenied("no")), ["a", "b"])
