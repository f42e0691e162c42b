"""Exit codes of the commands and of workers: one set for both. See docs/exit_codes.md."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BAD_INPUT",
    "COMPLETED",
    "INTERRUPTED",
    "RUN_FAILED",
    "TASKS_FAILED",
    "TERMINATED",
    "WAIT_TIMED_OUT",
]

COMPLETED: Final = 0
"""Success. Of a job: every task completed, or no more failed than the user accepts."""
RUN_FAILED: Final = 1
"""The run or the command failed: tasks may be unfinished, or instances may still be running."""
BAD_INPUT: Final = 2
"""Invalid options, configuration, task file or program; nothing was changed."""
TASKS_FAILED: Final = 3
"""Every task is finished, and more failed than the user accepts."""
WAIT_TIMED_OUT: Final = 124
"""The time limit of a command that waits for a job passed, as `timeout` exits."""
INTERRUPTED: Final = 130
"""Ctrl-C (SIGINT), or a stop that the user requested."""
TERMINATED: Final = 143
"""SIGTERM, of a worker."""
