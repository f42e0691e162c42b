"""One attempt's way through the worker, from where it comes from to where it is reported."""

from __future__ import annotations

import json
import time
from enum import IntEnum
from typing import Any

__all__ = ["LONG_BODY", "AttemptState", "PendingAttempt", "RunningAttempt"]

LONG_BODY = 32 * 1024
"""Bytes of a task's JSON from which on only its own process takes it apart: others would keep the memory."""


class PendingAttempt:
    """A task to be attempted. Not attrs: there are a thousand a second."""

    __slots__ = ("attempt", "lease_id", "lease_lost", "losses", "not_before", "payload", "task_id")

    def __init__(
        self,
        task_id: str,
        payload: dict[str, Any] | bytes,
        *,
        attempt: int = 1,
        losses: int = 0,
        not_before: float = 0.0,
        lease_id: str | None = None,
    ) -> None:
        self.task_id = task_id
        self.payload = payload
        """The task's data; where it is long, JSON with the member ``data``."""
        self.attempt = attempt
        self.losses = losses
        self.not_before = not_before
        """Unix time."""
        self.lease_id = lease_id
        """None: the task came from a local source."""
        self.lease_lost = False

    @property
    def data(self) -> dict[str, Any]:
        if isinstance(self.payload, bytes):
            data: dict[str, Any] = json.loads(self.payload).get("data", {})
            return data
        return self.payload


class AttemptState(IntEnum):
    """State of an attempt, from its start to its end. An int: its hash is quick."""

    WAITING = 1
    """Started, not begun."""
    RUNNING = 2
    ENDING = 3
    """Signalled to end."""
    ENDED = 4


# Looked up once: a member of an enumeration costs more than the rest of a change of state.
_WAITING = AttemptState.WAITING


class RunningAttempt:
    """An attempt that was handed to a launcher."""

    __slots__ = ("cause", "kill_at", "memory_gb", "number", "pid", "scratch", "slot", "started", "state", "work")

    def __init__(self, work: PendingAttempt, number: int, scratch: str) -> None:
        self.work = work
        self.number = number
        self.scratch = scratch
        self.state = _WAITING
        self.slot: int | None = None
        """None: it has none yet."""
        self.pid: int | None = None
        """None: it has no process yet."""
        self.started = time.monotonic()
        """Time of the start, then of the beginning (`time.monotonic`)."""
        self.cause = ""
        """Why it was told to end: ``timeout``, ``memory``, ``shutdown``; empty: it was not."""
        self.memory_gb = 0.0
        self.kill_at: float | None = None
        """When SIGKILL follows (`time.monotonic`)."""
