"""The SQS queue of a queue name: its creation, look-up, purge and deletion.

SQS takes up to a minute to delete or purge a queue. Until then it may still answer for a deleted queue, refuses to
create another of its name, and may delete messages that are sent to a purged one ("DeleteQueue", "PurgeQueue", Amazon
SQS API Reference).

Invariants, each with a test:

1. A queue is tagged before it is deleted: `exists` is false for every process, although SQS still knows the queue.
2. Creation is a request to SQS, also if the queue exists: it fails while the name is refused, instead of using a queue
   that SQS is about to delete.
3. A queue that this object created a moment ago is not given up when SQS does not know it yet ("CreateQueue": it can be
   used after a second).
4. The name of every queue is valid ("Amazon SQS quotas", Developer Guide: 80 letters, digits, hyphens and underscores),
   and two queue names never have one name in SQS.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import QueueContext
from cloud_tasks.plugin.kit import safe_name
from cloud_tasks_aws.errors import code_of, translate_errors

__all__ = ["DELETED_TAG", "NamedQueue", "is_fifo", "name_in_sqs"]

DELETED_TAG = "cloud-tasks-deleted"
"""Tag of a queue that is being deleted: ``yes``; ``no`` if its deletion was interrupted and it was created again."""
_RETENTION = timedelta(days=14)
_MAX_LENGTH = 80
_FIFO = ".fifo"
_EXISTS = frozenset({"QueueAlreadyExists", "QueueNameExists"})
"""The queue exists with other attributes."""
_NEW = 5.0
"""Seconds for which a created queue may be unknown to SQS."""
_NEW_PAUSE = 0.5

_Result = TypeVar("_Result")


class NamedQueue:
    """The queue of one name. Thread-safe.

    Args:
        client: A boto3 client of SQS.
        prefix: Start of the name in SQS.
        tags: Further tags of the queue.
    """

    def __init__(
        self,
        client: Any,
        prefix: str,
        context: QueueContext,
        *,
        tags: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._context = context
        self._tags = tags or {}
        self._clock = clock
        self._url = ""
        self._created_at = -math.inf

    def url(self) -> str:
        """Return the URL of the queue, of either type. Raises `NotFoundError`."""
        if not self._url:
            preferred = self._fifo
            self._url = self._find(fifo=preferred) or self._find(fifo=not preferred)
        if not self._url:
            raise NotFoundError(f'queue "{self._context.name}" not found in SQS')
        return self._url

    def call(self, action: str, call: Callable[[str], _Result]) -> _Result:
        """Call with the URL of the queue, again while it is too new to be known. Raises `NotFoundError`."""
        url = self.url()
        while True:
            try:
                with translate_errors(action):
                    return call(url)
            except NotFoundError:
                if self._clock() - self._created_at >= _NEW:
                    raise
            time.sleep(_NEW_PAUSE)

    def exists(self) -> bool:
        """Return whether the queue exists, and is not being deleted."""
        try:
            return not self._is_being_deleted()
        except NotFoundError:
            return False

    def create(self) -> None:
        """Create the queue; an existing one keeps its type."""
        with suppress(NotFoundError):
            self.url()
        name = self._name(fifo=is_fifo(self._url) if self._url else self._fifo)
        try:
            with translate_errors(f"creating the queue {name}"):
                url = str(self._request(name)["QueueUrl"])
        except ProviderError as error:
            if code_of(error.__cause__ or error) not in _EXISTS:
                raise
            url = self.url()
        self._url, self._created_at = url, self._clock()
        if self._is_being_deleted():
            self._tag("no")

    def delete(self) -> None:
        """Delete the queue, if it exists."""
        with suppress(NotFoundError):
            self._tag("yes")
            self.call("deleting the queue", lambda url: self._client.delete_queue(QueueUrl=url))
        self._created_at = -math.inf

    def purge(self) -> None:
        """Request the deletion of all messages, leased ones included. Raises `NotFoundError`."""
        self.call("purging the queue", lambda url: self._client.purge_queue(QueueUrl=url))

    @property
    def _fifo(self) -> bool:
        return self._context.exactly_once and not self._context.for_events

    def _name(self, *, fifo: bool) -> str:
        return name_in_sqs(self._prefix, self._context.name, fifo=fifo)

    def _find(self, *, fifo: bool) -> str:
        name = self._name(fifo=fifo)
        try:
            with translate_errors(f"looking up the queue {name}"):
                return str(self._client.get_queue_url(QueueName=name)["QueueUrl"])
        except NotFoundError:
            return ""

    def _request(self, name: str) -> Any:
        attributes = {
            "MessageRetentionPeriod": str(round(_RETENTION.total_seconds())),
            "SqsManagedSseEnabled": "true",
        }
        if name.endswith(_FIFO):
            # High throughput: each message is a group of its own, since order is not needed.
            attributes |= {
                "FifoQueue": "true",
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
            }
        own = {"cloud-tasks-job": self._context.job_id or self._context.name, "cloud-tasks-queue": self._context.name}
        return self._client.create_queue(QueueName=name, Attributes=attributes, tags={**self._tags, **own})

    def _is_being_deleted(self) -> bool:
        found = self.call("reading the tags of the queue", lambda url: self._client.list_queue_tags(QueueUrl=url))
        return (found.get("Tags") or {}).get(DELETED_TAG) == "yes"

    def _tag(self, value: str) -> None:
        tags = {DELETED_TAG: value}
        self.call("tagging the queue", lambda url: self._client.tag_queue(QueueUrl=url, Tags=tags))


def is_fifo(url: str) -> bool:
    """Return whether the queue is a FIFO queue (exactly-once delivery), by its name."""
    return url.endswith(_FIFO)


def name_in_sqs(prefix: str, name: str, *, fifo: bool) -> str:
    """Return the name in SQS."""
    longest = _MAX_LENGTH - len(prefix) - len(_FIFO)
    return f"{prefix}{safe_name(name, allowed='A-Za-z0-9_-', longest=longest)}{_FIFO if fifo else ''}"
