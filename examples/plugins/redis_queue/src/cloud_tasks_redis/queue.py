"""Queue on a Redis server.

Invariants, tested by the conformance kit:

1. Each change is one script on the server, so that no crash between two calls loses a message or duplicates a lease.
2. Time is the server's: consumers with different clocks agree on the end of a lease.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import redis

from cloud_tasks.plugin import Delivery, Depth, QueueContext, SendFailure
from cloud_tasks.plugin.kit import batched, send_bodies
from cloud_tasks_redis import scripts
from cloud_tasks_redis.connection import connect, translate_errors
from cloud_tasks_redis.settings import RedisSettings
from cloud_tasks_redis.traits import TRAITS

__all__ = ["RedisQueue", "open_queue"]

_POLL = 0.05
_BATCH_BYTES = 4 * 1024 * 1024
_MICROSECOND = timedelta(microseconds=1)


def open_queue(settings: RedisSettings, context: QueueContext) -> RedisQueue:
    """Implement `QueueBackend.open`."""
    return RedisQueue(connect(settings), prefix=settings.prefix, name=context.name, lease=context.lease)


class RedisQueue:
    """The `Queue` of one name. Thread-safe, like the client.

    Args:
        lease: First lease of a received message.
    """

    def __init__(self, client: redis.Redis, *, prefix: str, name: str, lease: timedelta) -> None:
        self._client = client
        self._name = name
        self._lease = min(lease, TRAITS.max_lease)
        # The braces keep a queue's keys on one node of a cluster, as scripts require.
        base = f"{prefix}:{{{name}}}"
        self._keys = [base, *(f"{base}:{part}" for part in ("schedule", "bodies", "counts", "leases"))]

    def create(self) -> None:
        with translate_errors(self._name):
            self._client.set(self._keys[0], "1", nx=True)

    def delete(self) -> None:
        with translate_errors(self._name):
            self._client.delete(*self._keys)

    def purge(self) -> None:
        self._run(scripts.PURGE)

    def exists(self) -> bool:
        with translate_errors(self._name):
            return bool(self._client.exists(self._keys[0]))

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        wait = min(delay, TRAITS.delay) // _MICROSECOND

        def send(batch: Sequence[bytes]) -> None:
            self._run(scripts.SEND, wait, *(part for body in batch for part in (uuid4().hex, body)))

        return send_bodies(bodies, send, traits=TRAITS, most_bytes=_BATCH_BYTES)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            answer = self._run(scripts.LEASE, min(max_messages, TRAITS.receive_batch), self._lease // _MICROSECOND)
            remaining = deadline - time.monotonic()
            if answer or remaining <= 0:
                fields = iter(answer)
                return [
                    Delivery(lease_id=lease.decode(), body=body, delivery_count=count)
                    for lease, body, count in zip(fields, fields, fields, strict=True)
                ]
            # No blocking command can run a script, and the end of a lease wakes no client.
            time.sleep(min(remaining, _POLL))

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._settle(scripts.REMOVE, (), lease_ids)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        return self._settle(scripts.EXTEND, (min(delay, TRAITS.delay) // _MICROSECOND, 0), lease_ids)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        return self._settle(scripts.EXTEND, (min(lease, TRAITS.max_lease) // _MICROSECOND, 1), lease_ids)

    def depth(self) -> Depth:
        visible, in_flight, now = self._run(scripts.COUNT)
        as_of = datetime.fromtimestamp(int(now) / 1_000_000, UTC)
        return Depth(visible=visible, in_flight=in_flight, exact=True, as_of=as_of)

    def close(self) -> None:
        self._client.close()

    def _settle(self, script: str, arguments: tuple[int, ...], lease_ids: Sequence[str]) -> list[str]:
        answers = [self._run(script, *arguments, *batch) for batch in batched(lease_ids, most=TRAITS.send_batch)]
        return [lease.decode() for answer in answers for lease in answer]

    def _run(self, script: str, *arguments: Any) -> Any:
        with translate_errors(self._name):
            return self._client.register_script(script)(keys=self._keys, args=arguments)
