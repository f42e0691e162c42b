"""Refusals of Google's management services, in their formats: AIP-193, and the JSON API of Cloud Storage."""

from __future__ import annotations

from billing_fake import google_error
from fake_server import Answer

__all__ = ["NUMBER", "Refusal", "refused", "storage_refused"]

NUMBER = "1234"
"""Number of the fake project."""
_NAMES = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED"}


class Refusal(Exception):  # noqa: N818 - the term of the documentation
    """An error response."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.body))
        self.answer = answer


def refused(status: int, message: str, *, name: str = "", reason: str = "", **metadata: str) -> Refusal:
    """Return a refusal in the common format.

    Args:
        name: Name of the code: ``FAILED_PRECONDITION``; empty for that of the status.
    """
    return Refusal(google_error(status, reason, message, name=name or _NAMES[status], metadata=metadata))


def storage_refused(status: int, reason: str, message: str) -> Refusal:
    """Return a refusal of Cloud Storage's JSON API."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return Refusal(Answer(status=status, body={"error": {"code": status, "message": message, "errors": errors}}))
