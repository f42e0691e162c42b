"""Waiting for operations (insert, delete).

The SDK's ``.result()`` polls Google's default address even when the client has another endpoint, so operations are
awaited with the client's own ``zoneOperations.wait`` or ``globalOperations.wait``, in the thread that started them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus

from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin.kit import Problem
from cloud_tasks_gcp.compute.clients import ClientSet
from cloud_tasks_gcp.compute.compute_errors import OPERATION_FAILED, problems_of_operation, translate_errors

__all__ = ["operation_problem", "wait_for_operation"]

_BACKOFF = 0.5


def wait_for_operation(
    clients: ClientSet,
    operation: sdk.Operation,
    *,
    project: str,
    zone: str,
    what: str,
    timeout: timedelta,
    clock: Callable[[], float] = time.monotonic,
) -> sdk.Operation:
    """Return the operation when it is done, successful or not. Raise a transient `ProviderError` on timeout.

    Args:
        zone: Zone of the operation; empty for a global one.
        what: Attempted action, for the message: ``start ct-job-1``.
    """
    if not operation.name:
        raise ProviderError(f"cannot {what}: the answer names no operation", transient=True)
    deadline = clock() + timeout.total_seconds()
    while operation.status != sdk.Operation.Status.DONE:
        if clock() >= deadline:
            raise ProviderError(f"cannot {what}: the operation is still running", transient=True)
        before = clock()
        with translate_errors(what):
            operation = clients.wait(project, zone, operation.name)
        if operation.status != sdk.Operation.Status.DONE and clock() - before < _BACKOFF:
            time.sleep(_BACKOFF)
    return operation


def operation_problem(operation: sdk.Operation) -> Problem | None:
    """Return why a finished operation failed; None for a successful one."""
    problems = problems_of_operation(operation.error.errors)
    if problems:
        # The first error is the cause; later ones repeat it for parts of the request.
        return problems[0]
    if operation.http_error_status_code:
        code = "NOT_FOUND" if operation.http_error_status_code == HTTPStatus.NOT_FOUND else OPERATION_FAILED
        return Problem(code=code, message=operation.http_error_message)
    return None
