"""Making events: JSON bytes, written by hand, for there are thousands a second. The format is that of `convert`."""

from __future__ import annotations

import itertools
import os
import socket
import time
from typing import Any

from cloud_tasks.compact_json import compact_encoder

__all__ = ["EventMaker"]


class EventMaker:
    """Makes the events of one supervisor, each with an id that no other event has. Thread-safe."""

    def __init__(self, hostname: str = "") -> None:
        self.hostname = hostname or socket.gethostname()
        self.instance_id: str | None = None
        """What the provider calls this machine; None while that is not known: the host name then stands for it."""
        self._prefix = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self._encode = compact_encoder(default=str)
        self._second = (0, "")

    def make(
        self,
        kind: str,
        *,
        task_id: str | None = None,
        attempt: int | None = None,
        retry: bool | None = None,
        elapsed: float | None = None,
        result: bytes = b"",
        at: float | None = None,
        **details: Any,
    ) -> bytes:
        """One event.

        Args:
            kind: A value of `EventType`.
            result: JSON, taken as it is.
            at: Unix time; None: now.
        """
        event: dict[str, Any] = {
            "timestamp": self._timestamp(time.time() if at is None else at),
            "hostname": self.hostname,
            "event_type": kind,
            "event_id": f"{self._prefix}-{next(self._numbers)}",
            "instance_id": self.instance_id or self.hostname,
        }
        if task_id is not None:
            event["task_id"] = task_id
            event["attempt"] = attempt
        if retry is not None:
            event["retry"] = retry
        if elapsed is not None:
            event["elapsed_time"] = round(elapsed, 6)
        event.update(details)
        text = self._encode(event).encode()
        return b"".join((text[:-1], b',"result":', result, b"}")) if result else text

    def _timestamp(self, at: float) -> str:
        second, text = self._second
        if int(at) != second:
            second = int(at)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{int((at - second) * 1_000_000):06d}+00:00"
