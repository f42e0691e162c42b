"""A client library for asyncio behind the synchronous Protocols: one event loop in one thread.

Invariants, each with a test:

1. A call returns or raises within its time limit, also if the library blocks the loop or ignores its cancellation.
2. Calls of all threads share one client, which is connected at the first call and again after a failed connection.
3. After `close` no thread and no task remains, and a waiting call has raised.
4. A forked process has a loop and a client of its own, and does not disturb those of its parent.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any, Generic, TypeVar

from cloud_tasks.errors import ProviderError

__all__ = ["AsyncBridge"]

C = TypeVar("C")
T = TypeVar("T")
_CLOSE_TIMEOUT = timedelta(seconds=5)

_of_parents: list[_Loop[Any]] = []
"""Loops of a process that this one was forked from, never closed: the kernel shares their state with the parent."""


class AsyncBridge(Generic[C]):
    """Calls of an asyncio client from any thread.

    Args:
        connect: Return the connected client. Runs in the loop, as everything that concerns the client does.
        disconnect: Close the client.
        name: Name of the service, for messages and the thread.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        *,
        disconnect: Callable[[C], Awaitable[object]] | None = None,
        name: str,
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._name = name
        self._lock = threading.Lock()
        self._loop: _Loop[C] | None = None
        self._process = os.getpid()
        self._closed = False

    def call(self, use: Callable[[C], Awaitable[T]], *, timeout: timedelta) -> T:
        """Return what a call of the client returns; raise what it raises.

        Args:
            timeout: Maximum time, including that of the connection. The call is then cancelled.

        Raises:
            ProviderError: Transient: there was no answer in time, or the bridge was closed meanwhile.
        """
        loop = self._own_loop()
        future = asyncio.run_coroutine_threadsafe(loop.use(use), loop.loop)
        try:
            return future.result(timeout.total_seconds())
        except CancelledError as error:
            raise ProviderError(f"{self._name}: closed during a call", transient=True) from error
        except TimeoutError as error:
            if future.done() and not future.cancelled():
                # A time limit of the client itself.
                raise
            raise ProviderError(
                f"{self._name}: no answer within {timeout.total_seconds():g} s", transient=True
            ) from error
        finally:
            future.cancel()

    def close(self, *, timeout: timedelta = _CLOSE_TIMEOUT) -> None:
        """Cancel running calls, close the client and end the thread. Never raises; waits for ``timeout`` at most."""
        if self._process != os.getpid():
            self._forked()
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop(self._disconnect, timeout.total_seconds())

    def _own_loop(self) -> _Loop[C]:
        if self._process != os.getpid():
            self._forked()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._name}: closed")
            if self._loop is None:
                self._loop = _Loop(self._connect, self._name)
            if self._loop.thread is threading.current_thread():
                raise RuntimeError(f"{self._name}: a call from the event loop would wait for itself")
            return self._loop

    def _forked(self) -> None:
        """Forget the parent's loop, whose thread does not exist here. Its lock may be held for ever."""
        if self._loop is not None:
            _of_parents.append(self._loop)
        self._loop, self._lock, self._process = None, threading.Lock(), os.getpid()


class _Loop(Generic[C]):
    """An event loop in its thread, with the client."""

    def __init__(self, connect: Callable[[], Awaitable[C]], name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=f"{name}-asyncio", daemon=True)
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._client: list[C] = []
        self.thread.start()

    async def use(self, use: Callable[[C], Awaitable[T]]) -> T:
        async with self._connecting:
            if not self._client:
                self._client.append(await self._connect())
        return await use(self._client[0])

    def stop(self, disconnect: Callable[[C], Awaitable[object]] | None, timeout: float) -> None:
        asyncio.run_coroutine_threadsafe(self._end(disconnect, timeout / 2), self.loop)
        self.thread.join(timeout)

    async def _end(self, disconnect: Callable[[C], Awaitable[object]] | None, timeout: float) -> None:
        """Cancel the calls, disconnect, cancel what the client left, and end the loop."""
        try:
            await self._cancel_others(timeout / 2)
            if disconnect is not None and self._client:
                await asyncio.wait_for(disconnect(self._client[0]), timeout)
        except Exception:  # the loop ends whatever the client does
            return
        finally:
            await self._cancel_others(timeout / 2)
            self.loop.stop()

    async def _cancel_others(self, timeout: float) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
