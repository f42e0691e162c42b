"""Makes an idempotent call of EC2 again while it fails in a way that passes, without a word to the user.

tenacity, not stamina: a retry that succeeds is no news, and stamina warns of each for the whole process or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
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

from cloud_tasks_aws.compute.failures import passing
from cloud_tasks_aws.failures import code_of

__all__ = ["patiently"]

log = structlog.get_logger()

_ATTEMPTS = 6
_SECONDS = 45.0
"""For all attempts of one call together: what was just made is known everywhere long before."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0

_Answer = TypeVar("_Answer")


def patiently(call: Callable[[], _Answer], *, again: Callable[[BaseException], bool] = passing) -> _Answer:
    """The answer of ``call``, made again while ``again`` says so of its error; the last error is raised."""
    attempts = Retrying(
        retry=retry_if_exception(again),
        stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(_SECONDS),
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
        before_sleep=_tell,
        reraise=True,
    )
    return attempts(call)


def _tell(state: RetryCallState) -> None:
    # The code alone: arguments hold user data, and messages are for whoever gives up.
    error = state.outcome.exception() if state.outcome is not None else None
    log.debug("EC2 is asked again", reason=code_of(error) if error is not None else "", attempt=state.attempt_number)
