"""Bodies over the size limit of a service: stored elsewhere, with a message that refers to them.

Invariants, each with a test:

1. A body is stored before its message is sent, and removed after its message was acked.
2. A message counts as finished only if its body does not exist, never because the store could not be read.
3. Deletion and purge of the queue remove the stored bodies of all its messages.
4. A message selects a body by a random name of this form, never another object of the store.
5. Any body arrives as it was sent, also one that looks like a reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import uuid4

import attrs
import structlog

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin.kit.fan_out import FanOut
from cloud_tasks.plugin.protocols import Delivery, Depth, Queue, SendFailure

__all__ = ["BodyStore", "OversizeQueue"]

log = structlog.get_logger()

_REFERENCE = re.compile(rb"\0cloud-tasks-body:([0-9a-f]{32})")
_NAME = re.compile(r"[0-9a-f]{32}")


class BodyStore(Protocol):
    """Stored bodies of one queue, by name. Thread-safe. Every method may raise `ProviderError`."""

    def put(self, name: str, body: bytes) -> None:
        """Store a body."""

    def get(self, name: str) -> bytes | None:
        """Return a body; None only if it does not exist, not if its folder or bucket is missing."""

    def remove(self, names: Sequence[str]) -> None:
        """Remove bodies; missing ones are ignored."""

    def names(self) -> Iterable[str]:
        """Return the names of all stored bodies of the queue."""


class OversizeQueue:
    """A `Queue` that stores large bodies outside of the wrapped one. Thread-safe.

    Args:
        inner: The queue of the messages; closed with this one.
        store: None: large bodies are refused.
        fits: Return whether the wrapped queue takes a body.
        remedy: The setting that names the store, for messages: ``set depot.oversize_location``.
        max_bytes: Maximum size of a stored body; None for no limit.
        threads: Maximum number of parallel calls of the store.
    """

    def __init__(
        self,
        inner: Queue,
        store: BodyStore | None,
        *,
        fits: Callable[[bytes], bool],
        remedy: str,
        max_bytes: int | None = None,
        threads: int = 4,
    ) -> None:
        self._inner = inner
        self._store = store
        self._fits = fits
        self._remedy = remedy
        self._max_bytes = max_bytes
        self._fan_out = FanOut(threads, "cloud-tasks-bodies")

    def create(self) -> None:
        """Implement `Queue.create`."""
        self._inner.create()

    def exists(self) -> bool:
        """Implement `Queue.exists`."""
        return self._inner.exists()

    def depth(self) -> Depth:
        """Implement `Queue.depth`."""
        return self._inner.depth()

    def close(self) -> None:
        """Implement `Queue.close`."""
        self._fan_out.close()
        self._inner.close()

    def delete(self) -> None:
        """Implement `Queue.delete`."""
        self._inner.delete()
        self._remove_all(self._names())

    def purge(self) -> None:
        """Implement `Queue.purge`."""
        # Listed first: a message that is sent after the purge may already have its body.
        names = self._names()
        self._inner.purge()
        self._remove_all(names)

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        """Implement `Queue.send`. A body that cannot be stored is a failure of its message."""
        large = [index for index, body in enumerate(bodies) if not self._fits(body) or _REFERENCE.fullmatch(body)]
        if not large:
            return self._inner.send(bodies, delay=delay)
        stored = dict(zip(large, self._fan_out.map(lambda index: self._put(index, bodies[index]), large), strict=True))
        failures = [each for each in stored.values() if isinstance(each, SendFailure)]
        failed = {each.index for each in failures}
        sent = [index for index in range(len(bodies)) if index not in failed]
        if sent:
            messages = [_reference(stored[index]) if index in stored else bodies[index] for index in sent]
            failures += [attrs.evolve(each, index=sent[each.index]) for each in self._inner.send(messages, delay=delay)]
        # The message of a transient failure may have been stored all the same.
        self._discard(stored[each.index] for each in failures if not each.transient and each.index in stored)
        return sorted(failures, key=lambda failure: failure.index)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        """Implement `Queue.receive`. A message whose body cannot be read now is delivered again after its lease."""
        outcomes = self._fan_out.outcomes(self._opened, self._inner.receive(max_messages, wait=wait))
        errors = [each for each in outcomes if isinstance(each, ProviderError)]
        found = [each for each in outcomes if each is not None and not isinstance(each, ProviderError)]
        if errors and not found:
            raise errors[0]
        return found

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        """Implement `Queue.ack`. A body that cannot be removed is removed with the queue."""
        lost = self._settled(self._inner.ack, lease_ids)
        self._discard(_name_of(each) for each in set(lease_ids).difference(lost))
        return lost

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        """Implement `Queue.release`."""
        return self._settled(lambda inner: self._inner.release(inner, delay=delay), lease_ids)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        """Implement `Queue.extend`."""
        return self._settled(lambda inner: self._inner.extend(inner, lease=lease), lease_ids)

    def _settled(self, call: Callable[[Sequence[str]], Sequence[str]], lease_ids: Sequence[str]) -> list[str]:
        by_inner: dict[str, list[str]] = {}
        for each in dict.fromkeys(lease_ids):
            by_inner.setdefault(_inner_of(each), []).append(each)
        return [each for lost in call(list(by_inner)) for each in by_inner[lost]]

    def _put(self, index: int, body: bytes) -> SendFailure | str:
        problem = ""
        if self._max_bytes is not None and len(body) > self._max_bytes:
            problem = f"{len(body):,} bytes, more than the limit of {self._max_bytes:,}"
        elif self._store is None:
            problem = f"{len(body):,} bytes cannot be sent in a message; {self._remedy}"
        if problem or self._store is None:
            return SendFailure(index=index, reason=problem, transient=False)
        name = uuid4().hex
        try:
            self._store.put(name, body)
        except ProviderError as error:
            return SendFailure(index=index, reason=str(error), transient=error.transient)
        return name

    def _opened(self, delivery: Delivery) -> Delivery | None:
        """Return the delivery with its body; None for one that was finished before."""
        match = _REFERENCE.fullmatch(delivery.body)
        name = match[1].decode() if match is not None else ""
        lease_id = f"{name}:{delivery.lease_id}"
        if not name:
            return attrs.evolve(delivery, lease_id=lease_id)
        if self._store is None:
            raise ProviderError("the body of a message is stored elsewhere", hint=f"{self._remedy} as on the sender")
        try:
            body = self._store.get(name)
        except NotFoundError as error:
            # It would mean that the queue does not exist.
            raise ProviderError(error.message, hint=error.hint or self._remedy) from error
        if body is None:
            # A body is removed only after an ack: this is a duplicate of a finished message.
            log.warning(f"Large message without a stored body ({name}); assumed to be a duplicate of a finished one")
            self._inner.ack([delivery.lease_id])
            return None
        return attrs.evolve(delivery, lease_id=lease_id, body=body)

    def _names(self) -> list[str]:
        return [] if self._store is None else [name for name in self._store.names() if _NAME.fullmatch(name)]

    def _remove_all(self, names: Sequence[str]) -> None:
        if names and self._store is not None:
            self._store.remove(names)

    def _discard(self, names: Iterable[object]) -> None:
        """Remove bodies that no message needs; a failure is logged only."""
        chosen = [name for name in names if isinstance(name, str) and name]
        try:
            self._remove_all(chosen)
        except ProviderError as error:
            log.warning(f"Cannot remove the stored body of a large message: {error}")


def _reference(name: object) -> bytes:
    return f"\0cloud-tasks-body:{name}".encode()


def _name_of(lease_id: str) -> str:
    return lease_id.partition(":")[0]


def _inner_of(lease_id: str) -> str:
    # The id of another queue has no name.
    return lease_id.partition(":")[2] or lease_id
