"""Connection to the NATS server, and translation of its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client

from cloud_tasks.plugin.kit import AsyncBridge, ErrorKind, ErrorRule, Problem, translate_errors
from cloud_tasks_nats.settings import NatsSettings

__all__ = ["ANSWER", "Server"]

T = TypeVar("T")

ANSWER = 10.0
"""Time limit for an answer of the server, in seconds."""

_OPTIONS: dict[str, Any] = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1}

_REFUSED = "authorization (violation|failed)|authentication (expired|revoked)"
_OUTAGE = "OSError|TimeoutError|No.*Error|Connection.*Error|Stale.*Error|UnexpectedEOF|Serv.*Error"
_RULES = (
    ErrorRule(kind=ErrorKind.NOT_FOUND, code="NotFoundError", hint="run: cloud-tasks load-queue"),
    ErrorRule(kind=ErrorKind.CREDENTIALS, message=_REFUSED, hint="check nats.username and nats.password"),
    ErrorRule(kind=ErrorKind.PERMANENT, message="jetstream not enabled", hint="start the server with JetStream"),
    ErrorRule(kind=ErrorKind.TRANSIENT, code=_OUTAGE, hint="check nats.url and that the server runs"),
)


class _Connection:
    """A client, which is replaced after its connection was lost. Used in one event loop.

    The library's own reconnection is off: it would send delayed acks, whose leases may have ended meanwhile.
    """

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._client: Client | None = None
        self._denied = ""

    async def use(self, work: Callable[[Client], Awaitable[T]]) -> T:
        async with self._lock:
            if self._client is None or not self._client.is_connected:
                await self.close()
                self._client = await self._connect()
        self._denied = ""
        try:
            return await work(self._client)
        except nats.errors.TimeoutError as error:
            # A request without permission gets no answer; the error comes by itself.
            raise nats.errors.Error(self._denied) if self._denied else error from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connect(self) -> Client:
        name, password = self._settings.username, self._settings.password
        account = {"token": password} if name is None else {"user": name, "password": password or ""}
        client = Client()
        try:
            await client.connect(self._settings.url, error_cb=self._note, ping_interval=10, **account, **_OPTIONS)
        except BaseException:
            await client.close()
            raise
        return client

    async def _note(self, error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            self._denied = str(error)


class Server:
    """Calls of the server, from any thread.

    Args:
        what: Start of the message of an error.
    """

    def __init__(self, settings: NatsSettings, what: str) -> None:
        self._what = what

        async def connect() -> _Connection:
            return _Connection(settings)

        self._bridge = AsyncBridge(connect, disconnect=_Connection.close, name="nats")
        self.close: Callable[[], None] = self._bridge.close

    def call(self, work: Callable[[Client], Awaitable[T]], *, wait: timedelta = timedelta(0)) -> T:
        """Return what a call of the client returns.

        Args:
            wait: Time for which the server may delay its answer.
        """
        with translate_errors(self._what, _problem_of, _RULES):
            return self._bridge.call(lambda each: each.use(work), timeout=wait + timedelta(seconds=2 * ANSWER))


def _problem_of(error: Exception) -> Problem | None:
    return Problem.of_exception(error) if isinstance(error, (nats.errors.Error, OSError, TimeoutError)) else None
