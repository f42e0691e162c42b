"""`PubSubQueue`: a topic and its one subscription.

Invariants, each with a test:

1. A message that `send` did not report as failed is stored at Pub/Sub; a failed one may be stored too if the response
   was lost.
2. A lease belongs to the object that received the message; for any other object it is lost.
3. Several messages never need one call each.
4. `depth` never raises while the queue exists: unavailable figures are unknown.
5. A message is delivered only with the requested lease; a message lost in transit returns after the minimum lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import structlog

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import Delivery, Depth, SendFailure
from cloud_tasks.plugin.kit import FanOut, Held, LeaseTable, batched
from cloud_tasks_gcp.queue.batches import ACK_BYTES, ACK_ENTRIES, MESSAGE_BYTES, PUBLISH_BYTES, PUBLISH_ENTRIES
from cloud_tasks_gcp.queue.delays import delay_attributes, split_due, whole_seconds
from cloud_tasks_gcp.queue.pubsub_client import PubsubClient, QueueSpec, message
from cloud_tasks_gcp.queue.pubsub_errors import translate_errors
from cloud_tasks_gcp.queue.pull_pool import PullPool
from cloud_tasks_gcp.traits import QUEUE_TRAITS as TRAITS

__all__ = ["MIN_POLL", "PubSubQueue"]

log = structlog.get_logger()

MIN_POLL = 1.0
"""Minimum duration of an empty receive in seconds: Pub/Sub collects messages before it responds, so a shorter wait may
miss stored messages."""
_EMPTY = "cloud-tasks-empty"
"""Attribute of messages with an empty body: Pub/Sub rejects a message without both body and attributes."""
_FRAMING = 12
_THREADS = 4


class PubSubQueue:
    """The `Queue` of one name. Thread-safe.

    Args:
        client: Connection, closed with this object.
        spec: Properties of the queue, for `create`.
        lease: First lease of a received message.
        read_depth: Returns the queue depth.
        project: Project id, for messages.
        table: Lease table; None for a new one.
        min_poll: Minimum duration of an empty receive in seconds.
        startup_log: Log lines of `create`.
    """

    def __init__(
        self,
        client: PubsubClient,
        spec: QueueSpec,
        *,
        lease: timedelta,
        read_depth: Callable[[], Depth],
        project: str,
        table: LeaseTable[str] | None = None,
        min_poll: float = MIN_POLL,
        startup_log: Sequence[str] = (),
    ) -> None:
        self._startup_log = startup_log
        self._client = client
        self._spec = spec
        self._lease = whole_seconds(min(lease, TRAITS.max_lease).total_seconds())
        self._read_depth = read_depth
        self._project = project
        self._leases: LeaseTable[str] = table if table is not None else LeaseTable()
        self._min_poll = min_poll
        self._pulls = PullPool(client.start_pull, self._give_back)
        self._fan_out = FanOut(_THREADS, "cloud-tasks-pubsub")

    # Lifecycle

    def create(self) -> None:
        for line in self._startup_log:
            log.info(line)
        self._client.create(self._spec)

    def delete(self) -> None:
        self._client.delete()
        self._leases.clear()

    def purge(self) -> None:
        """`Queue.purge`, by the clock of this machine, which should be accurate to a second."""
        self._client.seek_to_now()
        self._leases.clear()

    def exists(self) -> bool:
        return self._client.exists()

    def depth(self) -> Depth:
        """Return Cloud Monitoring's figures, a minute or more old; unknown when unavailable."""
        self._client.check_exists()
        return self._read_depth()

    def close(self) -> None:
        self._pulls.close()
        self._fan_out.close()
        self._client.close()

    # Sending

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        attributes = delay_attributes(min(delay, TRAITS.delay))
        overhead = sum(len(key) + len(value) + _FRAMING for key, value in attributes.items()) + _FRAMING
        failures = [
            SendFailure(
                index=index,
                reason=f"{len(body):,} bytes, more than Pub/Sub's limit of {MESSAGE_BYTES:,}",
                transient=False,
            )
            for index, body in enumerate(bodies)
            if len(body) > MESSAGE_BYTES
        ]
        fitting = [index for index, body in enumerate(bodies) if len(body) <= MESSAGE_BYTES]
        requests = batched(
            fitting,
            most=PUBLISH_ENTRIES,
            most_bytes=PUBLISH_BYTES,
            size=lambda index: len(bodies[index]) + overhead,
        )

        def publish(batch: Sequence[int]) -> dict[int, ProviderError]:
            messages = [
                message(bodies[index], attributes if bodies[index] else {**attributes, _EMPTY: "1"}) for index in batch
            ]
            return {batch[place]: error for place, error in self._client.publish(messages).items()}

        refused = {index: error for found in self._fan_out.map(publish, requests) for index, error in found.items()}
        if refused and len(refused) == len(bodies):
            raise next(iter(refused.values()))
        failures += [
            SendFailure(index=index, reason=str(error), transient=error.transient) for index, error in refused.items()
        ]
        return sorted(failures, key=lambda failure: failure.index)

    # Receiving

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """`Queue.receive`; an empty receive takes at least `min_poll` seconds."""
        if max_messages < 1:
            return []
        deadline = time.monotonic() + max(wait.total_seconds(), self._min_poll)
        while True:
            remaining = max(0.0, deadline - time.monotonic())
            with translate_errors("receiving from the queue", self._project):
                received = self._pulls.take(min(max_messages, TRAITS.receive_batch), remaining)
            due, early = split_due(received)
            for seconds, ack_ids in early.items():
                self._hide(ack_ids, seconds)
            deliveries = self._deliver(due)
            if deliveries:
                return deliveries
            if not received or time.monotonic() >= deadline:
                return []

    def _deliver(self, received: Sequence[Any]) -> list[Delivery]:
        """Set the requested lease; messages whose lease already ended are skipped, as Pub/Sub redelivers them."""
        if self._lease != self._spec.ack_deadline:
            expired = set(self._hide([each.ack_id for each in received], self._lease))
            received = [each for each in received if each.ack_id not in expired]
        lease = timedelta(seconds=self._lease)
        return [
            Delivery(
                lease_id=self._leases.add(each.ack_id, lease),
                body=each.message.data,
                delivery_count=None,
            )
            for each in received
        ]

    def _hide(self, ack_ids: Sequence[str], seconds: int) -> list[str]:
        return self._in_requests(ack_ids, lambda batch: self._client.modify(batch, seconds))

    def _give_back(self, received: Sequence[Any]) -> None:
        """Return messages that no caller waits for. Must not block: called from gRPC threads."""
        for batch in _requests(each.ack_id for each in received):
            try:
                self._client.start_release(batch)
            except ValueError:
                # The connection is closed, and the leases expire.
                return

    # Settling

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._settle(lease_ids, self._client.acknowledge, self._forget)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        seconds = whole_seconds(delay.total_seconds())
        return self._settle(lease_ids, lambda batch: self._client.modify(batch, seconds), self._forget)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        seconds = max(1, whole_seconds(min(lease, TRAITS.max_lease).total_seconds()))
        since = self._leases.now()

        def extended(done: Iterable[Held[str]]) -> None:
            for each in done:
                self._leases.extended(each, timedelta(seconds=seconds), since=since)

        return self._settle(lease_ids, lambda batch: self._client.modify(batch, seconds), extended)

    def _settle(
        self,
        lease_ids: Sequence[str],
        call: Callable[[Sequence[str]], Sequence[str]],
        after: Callable[[Iterable[Held[str]]], None],
    ) -> list[str]:
        """Call Pub/Sub for the held leases; return the ids of lost leases.

        Args:
            call: Takes ack ids, returns those whose lease had ended.
            after: Called with the leases of each successful request.
        """
        held, lost = self._leases.split(lease_ids)
        by_ack_id = {each.payload: each for each in held}

        def settle_batch(batch: Sequence[str]) -> list[str]:
            ended = set(call(batch))
            after(by_ack_id[ack_id] for ack_id in batch if ack_id not in ended)
            lost_ids = [by_ack_id[ack_id].lease_id for ack_id in ended]
            self._leases.forget(lost_ids)
            return lost_ids

        return lost + self._in_requests(list(by_ack_id), settle_batch)

    def _forget(self, done: Iterable[Held[str]]) -> None:
        self._leases.forget(each.lease_id for each in done)

    def _in_requests(self, ack_ids: Sequence[str], call: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
        return [ended for some in self._fan_out.map(call, _requests(ack_ids)) for ended in some]


def _requests(ack_ids: Iterable[str]) -> Iterator[list[str]]:
    return batched(ack_ids, most=ACK_ENTRIES, most_bytes=ACK_BYTES, size=_ack_size)


def _ack_size(ack_id: str) -> int:
    return len(ack_id) + 4
