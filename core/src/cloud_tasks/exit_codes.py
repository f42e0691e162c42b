"""Exit codes of the commands and of workers: one set for both, and the code of a job whose tasks are finished.

docs/exit_codes.md describes them. Standard library only, and light: task processes load this module.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "BAD_INPUT",
    "COMPLETED",
    "INTERRUPTED",
    "RUN_FAILED",
    "TASKS_FAILED",
    "TERMINATED",
    "AcceptedFailures",
    "code_of_finished",
]

COMPLETED: Final = 0
"""Success. Of a job: every task completed, or no more failed than the user accepts."""
RUN_FAILED: Final = 1
"""The run or the command failed: tasks may be unfinished, or instances may still be running."""
BAD_INPUT: Final = 2
"""Invalid options, configuration, task file or program; nothing was changed."""
TASKS_FAILED: Final = 3
"""Every task is finished, and more failed than the user accepts."""
INTERRUPTED: Final = 130
"""Ctrl-C (SIGINT), or a stop that the user requested."""
TERMINATED: Final = 143
"""SIGTERM, of a worker."""

_FORM = r"(0|[1-9][0-9]{0,14})(?:(\.[0-9]{1,9})?[ ]?(%))?"


class AcceptedFailures:
    """Failed tasks with which a job still counts as a success: a number, or a share of all its tasks.

    Args:
        number: Number of tasks; with ``scale``, the numerator of a share.
        scale: Denominator of the share; 0 for a number of tasks.
    """

    __slots__ = ("_number", "_scale")

    def __init__(self, number: int = 0, scale: int = 0) -> None:
        self._number = number
        self._scale = scale

    @classmethod
    def parse(cls, text: str) -> AcceptedFailures:
        """Return the limit that a text such as ``5`` or ``0.5%`` expresses.

        Raises:
            ValueError: The text has another form, or is a share above 100%.
        """
        match = re.fullmatch(_FORM, text.strip())
        if match is None:
            raise ValueError(f'expected a number of tasks such as 5, or a share such as 2%, got "{text}"')
        whole, fraction, percent = match[1], (match[2] or ".")[1:], match[3]
        if not percent:
            return cls(int(whole))
        share, scale = int(whole + fraction), 100 * 10 ** len(fraction)
        if share > scale:
            raise ValueError(f'expected at most 100%, got "{text}"')
        return cls(share, scale)

    def allow(self, failed: int, total: int) -> bool:
        """Return whether so many failed tasks of a total are accepted."""
        return failed * self._scale <= self._number * total if self._scale else failed <= self._number


def code_of_finished(failed: int, total: int, accepted: AcceptedFailures) -> int:
    """Return the exit code of a job, or of a worker, whose tasks are all finished."""
    return COMPLETED if accepted.allow(failed, total) else TASKS_FAILED
