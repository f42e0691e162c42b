"""One attempt on its way through the worker: pending until it is submitted, then running until it is reported."""

from __future__ import annotations

import json
import time
from enum import IntEnum
from typing import Any

__all__ = ["LONG_BODY", "UNUSABLE_DATA", "AttemptState", "PendingAttempt", "RunningAttempt"]

LONG_BODY = 32 * 1024
"""Bytes of a task's JSON from which on only its own process decodes it, so that no other keeps the memory."""
UNUSABLE_DATA = (ValueError, TypeError, AttributeError)
"""Errors of data that is not a JSON object, with which the attempt fails."""


class PendingAttempt:
    """An attempt that waits to be submitted. Not attrs: thousands are created per second."""

    __slots__ = ("attempt", "delay", "lease_id", "lease_lost", "losses", "not_before", "payload", "task_id")

    def __init__(
        self,
        task_id: str,
        payload: dict[str, Any] | bytes,
        *,
        attempt: int = 1,
        losses: int = 0,
        not_before: float = 0.0,
        delay: float | None = None,
        lease_id: str | None = None,
    ) -> None:
        self.task_id = task_id
        self.payload = payload
        """Data of the task; from `LONG_BODY` on, JSON with the member ``data``."""
        self.attempt = attempt
        self.losses = losses
        """Number of interrupted attempts before this one."""
        self.not_before = not_before
        """Earliest start (Unix time)."""
        self.delay = delay
        """Seconds from its receipt to the start at most; None for no limit."""
        self.lease_id = lease_id
        """Lease of the task's message; None for a task of a local source."""
        self.lease_lost = False

    @property
    def wait(self) -> float:
        """Seconds until the start, not more than the delay: the clocks of sender and receiver may differ, or be set."""
        seconds = self.not_before - time.time()
        return seconds if self.delay is None else min(seconds, self.delay)

    @property
    def data(self) -> dict[str, Any]:
        """Decoded data of the task."""
        if isinstance(self.payload, bytes):
            data: dict[str, Any] = json.loads(self.payload).get("data", {})
            return data
        return self.payload


class AttemptState(IntEnum):
    """State of a submitted attempt. The values are indices into the groups of `AttemptTable`."""

    WAITING = 0
    """Submitted; no process runs it yet."""
    RUNNING = 1
    ENDING = 2
    """Its process was signalled."""
    FINISHED = 3


# A member of an enumeration takes longer to look up than an attempt takes to move.
_WAITING = AttemptState.WAITING


class RunningAttempt:
    """An attempt that was submitted to a launcher."""

    __slots__ = (
        "cause",
        "kill_at",
        "memory_gb",
        "number",
        "pid",
        "scratch",
        "slot",
        "started",
        "state",
        "submitted",
        "work",
    )

    def __init__(self, work: PendingAttempt, number: int, scratch: str) -> None:
        self.work = work
        self.number = number
        """Number of the attempt in this worker, from 0."""
        self.scratch = scratch
        """Path of the scratch folder, which may not exist."""
        self.state = _WAITING
        self.slot: int | None = None
        """None until a slot is assigned."""
        self.pid: int | None = None
        """None until a process is assigned."""
        self.submitted = self.started = time.monotonic()
        """Time of submission; ``started`` is then that of the start in a process (`time.monotonic`)."""
        self.cause = ""
        """Reason for which the worker ends it: ``timeout``, ``memory`` or ``shutdown``; empty for none."""
        self.memory_gb = 0.0
        """Resident memory at the last check."""
        self.kill_at: float | None = None
        """Time of SIGKILL (`time.monotonic`); None for none."""
