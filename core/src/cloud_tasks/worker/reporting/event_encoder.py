"""Encoding of events as JSON bytes, in the format of `cloud_tasks.convert`.

The JSON is put together as text, because thousands of events are encoded per second.
"""

from __future__ import annotations

import itertools
import os
import time
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from cloud_tasks.compact_json import compact_encoder

__all__ = ["EventEncoder"]


class EventEncoder:
    """Encodes the events of one supervisor, each with a unique id. Thread-safe.

    Args:
        run_id: Run of the job that each event names; None for none.
    """

    def __init__(self, hostname: str = "", *, run_id: str | None = None) -> None:
        self._hostname = _quoted(hostname or os.uname().nodename)
        self._run = f',"run_id":{_quoted(run_id)}' if run_id else ""
        self._instance_id = self._hostname
        self._prefix = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self._encode_details = compact_encoder(default=str)
        self._second = (0, "")

    def set_instance_id(self, instance_id: str) -> None:
        """Set the provider's id of this instance, for which the host name stands until it is known."""
        self._instance_id = _quoted(instance_id)

    def encode(
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
        """Return one event.

        Args:
            kind: A value of `EventType`.
            elapsed: Duration of the attempt in seconds.
            result: JSON, copied as it is; empty for none.
            at: Unix time; None for now.
            details: Further fields of the event.
        """
        text = (
            f'{{"timestamp":"{self._timestamp(time.time() if at is None else at)}","hostname":{self._hostname},'
            f'"event_type":"{kind}","event_id":"{self._prefix}-{next(self._numbers)}",'
            f'"instance_id":{self._instance_id}{self._run}'
        )
        if task_id is not None:
            text += f',"task_id":{_quoted(task_id)},"attempt":{attempt}'
        if retry is not None:
            text += ',"retry":true' if retry else ',"retry":false'
        if elapsed is not None:
            text += f',"elapsed_time":{round(elapsed, 6)!r}'
        if details:
            text = f"{text},{self._encode_details(details)[1:-1]}"
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
