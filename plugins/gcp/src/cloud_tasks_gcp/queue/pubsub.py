"""`PubSubQueue`: a topic and its one subscription.

Invariants, each with a test:

1. Several messages never need one call each.
2. `depth` never raises while the queue exists: unavailable figures are unknown.
3. A message is delivered only with the requested lease; a message lost in transit returns after the minimum lease.
4. Those of `BatchedQueue`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog

from cloud_tasks.plugin import Depth
from cloud_tasks.plugin.kit import BatchedQueue, Held, Received, Refused, RequestLimits, batched, retry_refused
from cloud_tasks_gcp.queue.delays import delay_attributes, split_due
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
_FRAMING = 100
"""Maximum size of attributes and framing of a message in bytes."""
_SETTLE = 2000
"""Maximum ack ids of a request, which is limited to 524,288 bytes ("Request payload size exceeds the limit"). A larger
request is refused and divided."""
_PUBLISH_BYTES = 10_000_000 - 1_000
_THREADS = 4


class PubSubQueue(BatchedQueue[str]):
    """The `Queue` of one name; the payload of a lease is its ack id.

    Args:
        client: Connection, closed with this object.
        spec: Properties of the queue, for `create`.
        lease: First lease of a received message.
        read_depth: Returns the queue depth.
        project: Project id, for messages.
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
        min_poll: float = MIN_POLL,
        startup_log: Sequence[str] = (),
    ) -> None:
        limits = RequestLimits(
            send=TRAITS.send_batch,
            send_bytes=_PUBLISH_BYTES,
            receive=TRAITS.receive_batch,
            settle=_SETTLE,
            min_wait=timedelta(seconds=min_poll),
        )
        super().__init__(TRAITS, limits, lease=lease, threads=_THREADS, name="cloud-tasks-pubsub")
        self._startup_log = startup_log
        self._client = client
        self._spec = spec
        self._read_depth = read_depth
        self._project = project
        self._pulls = PullPool(client.start_pull, self._give_back)

    def create(self) -> None:
        for line in self._startup_log:
            log.info(line)
        self._client.create(self._spec)

    def delete(self) -> None:
        self._client.delete()
        self._forget_leases()

    def purge(self) -> None:
        """`Queue.purge`, by the clock of this machine, which should be accurate to a second."""
        self._client.seek_to_now()
        self._forget_leases()

    def exists(self) -> bool:
        return self._client.exists()

    def depth(self) -> Depth:
        """Return Cloud Monitoring's figures, a minute or more old; unknown when unavailable."""
        self._client.check_exists()
        return self._read_depth()

    def close(self) -> None:
        super().close()
        self._pulls.close()
        self._client.close()

    def _size(self, message: bytes) -> int:
        return len(message) + _FRAMING

    def _send(self, messages: Sequence[bytes], delay: timedelta) -> Mapping[int, Refused]:
        attributes = delay_attributes(delay)
        return self._client.publish(
            [message(body, attributes if body else {**attributes, _EMPTY: "1"}) for body in messages]
        )

    def _receive(self, count: int, wait: timedelta) -> Sequence[Received[str]]:
        """Return the messages that are due; early ones are hidden for the remaining time."""
        with translate_errors("receiving from the queue", self._project):
            due, early = split_due(self._pulls.take(count, wait.total_seconds()))
        for seconds, ack_ids in early.items():
            self._set_lease(ack_ids, seconds)
        lease = int(self._lease.total_seconds())
        if due and lease != self._spec.ack_deadline:
            # Pub/Sub redelivers messages whose lease already ended.
            ended = self._set_lease([each.ack_id for each in due], lease)
            due = [each for index, each in enumerate(due) if index not in ended]
        return [Received(body=each.message.data, payload=each.ack_id) for each in due]

    def _ack(self, held: Sequence[Held[str]]) -> Mapping[int, Refused]:
        return self._client.acknowledge([each.payload for each in held])

    def _change(self, held: Sequence[Held[str]], leases: Sequence[timedelta]) -> Mapping[int, Refused]:
        refused: dict[int, Refused] = {}
        for lease in sorted(set(leases)):
            places = [index for index, each in enumerate(leases) if each == lease]
            found = self._client.modify([held[index].payload for index in places], int(lease.total_seconds()))
            refused |= {places[place]: why for place, why in found.items()}
        return refused

    def _set_lease(self, ack_ids: Sequence[str], seconds: int) -> Mapping[int, Refused]:
        return retry_refused(lambda some: self._client.modify(some, seconds), ack_ids)

    def _give_back(self, received: Sequence[Any]) -> None:
        """Return messages that no caller waits for. Must not block: called from gRPC threads."""
        for batch in batched([each.ack_id for each in received], most=_SETTLE):
            try:
                self._client.start_release(batch)
            except ValueError:
                # The connection is closed, and the leases expire.
                return
