"""Assignments of task processes."""

from __future__ import annotations

from typing import Any

__all__ = ["Assignment", "ResultLimits"]

ResultLimits = tuple[int | None, str | None]
"""Maximum bytes of a result, and the folder or URL for longer ones; None for no limit, no store."""


class Assignment:
    """One attempt, as assigned to a process."""

    __slots__ = ("attempt", "environment", "number", "output", "payload", "scratch", "slot", "task_id")

    def __init__(
        self,
        number: int,
        slot: int,
        task_id: str,
        attempt: int,
        payload: dict[str, Any] | bytes,
        scratch: str,
        environment: dict[str, str],
        output: int | None = None,
    ) -> None:
        self.number = number
        self.slot = slot
        self.task_id = task_id
        self.attempt = attempt
        self.payload = payload
        """Data of the task, or JSON with the member ``data``."""
        self.scratch = scratch
        self.environment = environment
        self.output = output
        """Descriptor of the file for the output of this attempt alone; None for that of the process."""

    def fields(self) -> tuple[Any, ...]:
        """Return the arguments of the constructor that are valid in a new interpreter."""
        return (self.number, self.slot, self.task_id, self.attempt, self.payload, self.scratch, self.environment)
