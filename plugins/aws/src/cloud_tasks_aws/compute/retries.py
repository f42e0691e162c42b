"""Retries of idempotent EC2 calls that fail with a transient error.

tenacity, not stamina: stamina logs a warning for each retry of the whole process or for none, and a retry that succeeds
is not worth a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from cloud_tasks_aws.compute.compute_errors import is_transient, leaves_open
from cloud_tasks_aws.errors import code_of

__all__ = ["Outcome", "retry_call"]

log = structlog.get_logger()

_MAX_ATTEMPTS = 6
_TIMEOUT = 45.0
"""Seconds for all attempts of one call; new resources are visible long before."""
_INITIAL_BACKOFF = 0.5
_MAX_BACKOFF = 10.0

_Result = TypeVar("_Result")


class Outcome:
    """Whether calls with one client token may have started an instance without an answer."""

    def __init__(self) -> None:
        self.is_open = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note an error after which an instance may have been started."""
        try:
            yield
        except Exception as error:
            self.is_open = self.is_open or leaves_open(error)
            raise


def retry_call(call: Callable[[], _Result], *, retryable: Callable[[BaseException], bool] = is_transient) -> _Result:
    """Return the result of ``call``, repeated while its error is ``retryable``; raise the last error."""
    attempts = Retrying(
        retry=retry_if_exception(retryable),
        stop=stop_after_attempt(_MAX_ATTEMPTS) | stop_after_delay(_TIMEOUT),
        wait=wait_random_exponential(multiplier=_INITIAL_BACKOFF, max=_MAX_BACKOFF),
        before_sleep=_log_retry,
        reraise=True,
    )
    return attempts(call)


def _log_retry(state: RetryCallState) -> None:
    # The code only: arguments contain user data, and the message belongs to the final error.
    error = state.outcome.exception() if state.outcome is not None else None
    log.debug("Retrying EC2 call", reason=code_of(error) if error is not None else "", attempt=state.attempt_number)
