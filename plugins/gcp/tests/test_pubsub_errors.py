"""Translation of Pub/Sub errors."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core import exceptions as api

from cloud_tasks.errors import NotFoundError, ProviderError
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
