"""Limits on connections that have not sent a complete request: a token is checked only after the headers.

Invariants, each with a test:

1. A connection without a complete request ends after `HEADER_SECONDS`.
2. At most `MAX_WAITING` connections wait for their headers; one more ends the one that has waited longest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["HEADER_SECONDS", "MAX_WAITING", "LimitedProtocol"]

HEADER_SECONDS = 10.0
MAX_WAITING = 100


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 with a limit on the time until a request is complete."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        state = vars(self.server_state)
        self._waiting: OrderedDict[LimitedProtocol, asyncio.TimerHandle] = state.setdefault("waiting", OrderedDict())
        """Connections of the server that wait for the headers of a request, oldest first."""
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self in self._waiting:
            return
        if len(self._waiting) >= MAX_WAITING:
            next(iter(self._waiting))._end()
        self._waiting[self] = self.loop.call_later(HEADER_SECONDS, self._end)

    def _stop_waiting(self) -> None:
        timer = self._waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _end(self) -> None:
        self._stop_waiting()
        self.transport.abort()
