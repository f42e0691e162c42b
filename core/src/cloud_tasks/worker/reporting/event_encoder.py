"""Making events: JSON bytes, written by hand, for there are thousands a second. The format is that of `convert`."""

from __future__ import annotations

import itertools
import os
import time
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from cloud_tasks.compact_json import compact_encoder

__all__ = ["EventEncoder"]


class EventEncoder:
    """Makes the events of one supervisor, each with an id that no other event has. Thread-safe."""

    def __init__(self, hostname: str = "") -> None:
        self.hostname = hostname or os.uname().nodename
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
        text = (
            f'{{"timestamp":"{self._timestamp(time.time() if at is None else at)}","hostname":{_quoted(self.hostname)},'
            f'"event_type":"{kind}","event_id":"{self._prefix}-{next(self._numbers)}",'
            f'"instance_id":{_quoted(self.instance_id or self.hostname)}'
        )
        if task_id is not None:
            text += f',"task_id":{_quoted(task_id)},"attempt":{attempt}'
        if retry is not None:
            text += ',"retry":true' if retry else ',"retry":false'
        if elapsed is not None:
            text += f',"elapsed_time":{round(elapsed, 6)!r}'
        if details:
            text = f"{text},{self._encode(details)[1:-1]}"
        if not result:
            return f"{text}}}".encode()
        return b"".join((text.encode(), b',"result":', result, b"}"))

    def _timestamp(self, at: float) -> str:
        second, text = self._second
        if int(at) != second:
            second = int(at)
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{int((at - second) * 1_000_000):06d}+00:00"
