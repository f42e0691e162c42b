"""Zone operations: waits for what an insert or a delete began.

The SDK's own ``.result()`` polls Google's default address whatever the client was told, so operations are waited for
with the client's own ``zoneOperations.wait``, in the thread that began them: as many wait at once as there are threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.compute.clients import ClientSet
from cloud_tasks_gcp.compute.failures import Problem, mapped, problems_of_operation

__all__ = ["finished", "operation_problem"]

_PAUSE = 0.5


def finished(
    clients: ClientSet,
    operation: sdk.Operation,
    *,
    project: str,
    zone: str,
    what: str,
    patience: timedelta,
    clock: Callable[[], float] = time.monotonic,
) -> sdk.Operation:
    """The operation once it is over, well or not. Raises `ProviderError` (transient) when it takes too long."""
    deadline = clock() + patience.total_seconds()
    while operation.status != sdk.Operation.Status.DONE:
        if clock() >= deadline:
            raise ProviderError(f"cannot {what}: it is still under way", transient=True)
        before = clock()
        with mapped(what):
            operation = clients.wait(project, zone, operation.name)
        if operation.status != sdk.Operation.Status.DONE and clock() - before < _PAUSE:
            time.sleep(_PAUSE)
    return operation


def operation_problem(operation: sdk.Operation) -> Problem | None:
    """Why a finished operation failed; None when it did not."""
    problems = problems_of_operation(operation.error.errors)
    if problems:
        # The first tells the cause; later ones repeat it for parts of the request.
        return problems[0]
    if operation.http_error_status_code:
        return Problem(code="", message=operation.http_error_message, status=operation.http_error_status_code)
    return None
