"""Generations of a queue: the SQS queues that a queue name has had, of which one is current.

SQS takes up to a minute to delete or purge a queue. Until then it still answers for the old queue, accepts messages
that will be deleted, and refuses to create a queue of the same name ("DeleteQueue", "PurgeQueue", Amazon SQS API
Reference). So no queue is purged or recreated under its name: a new generation replaces the old one, which is tagged as
retired and then deleted.

Invariants, each with a test:

1. The newest generation that is not retired is the current queue; every lister finds the same one.
2. A generation is tagged before it is deleted, so that creating or checking a queue ignores retired queues that SQS
   still lists. The tag of a replaced generation names its successor, which SQS may not list yet. Other calls use the
   newest listed generation, and list again when SQS answers that it does not exist.
3. Generations are deleted from the oldest to the newest: an interrupted deletion never leaves an older one current.
4. Two processes that create the queue in the same minute choose the same name, which SQS creates once. In adjacent
   minutes the lower number wins: the creator of the higher one deletes it and uses the lower.
5. Creations and deletions by this object are cached.
6. A queue that this object created a moment ago is not given up when SQS does not know it yet ("CreateQueue": it can be
   used after a second), and what another process created is listed again after `_FORGOTTEN_AFTER`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import attrs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.errors import code_of, translate_errors
from cloud_tasks_aws.queue.names import Generation, generations, list_prefix, physical_name

__all__ = ["RETIRED_TAG", "Generations", "QueueSpec"]

RETIRED_TAG = "cloud-tasks-retired"
"""Tag of a retired generation: the URL of its successor, or ``deleted``."""
_NO_SUCCESSOR = "deleted"
_MAX_NAME_ATTEMPTS = 5
# The name belongs to a queue with other attributes, or to one deleted within the last minute.
_TAKEN = frozenset({"QueueAlreadyExists", "QueueDeletedRecently", "QueueNameExists"})
_MAX_SUCCESSORS = 20
_NEW = 5.0
"""Seconds for which a created queue may be unknown to SQS."""
_NEW_PAUSE = 0.5
_FORGOTTEN_AFTER = 10.0
"""Seconds for which a queue is not used after SQS answered that it does not exist."""

_Result = TypeVar("_Result")


@attrs.frozen(kw_only=True)
class QueueSpec:
    """Attributes and tags of a new generation."""

    fifo: bool
    attributes: Mapping[str, str]
    tags: Mapping[str, str]


class Generations:
    """The generations of one queue. Thread-safe.

    Args:
        client: A boto3 client of SQS.
        clock: Unix time in seconds.
    """

    def __init__(
        self, client: Any, prefix: str, name: str, spec: QueueSpec, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._name = name
        self._spec = spec
        self._clock = clock
        self._lock = threading.RLock()
        self._current: str | None = None
        self._deleted: dict[str, float] = {}
        self._created: dict[str, float] = {}

    def current(self) -> str:
        """Return the URL of the current queue. Raises `NotFoundError`."""
        with self._lock:
            if self._current is None:
                # Tags are not read here: the rate of tag calls per account is low, and workers are many. The newest
                # listed generation is the current queue, or SQS answers within a minute that it does not exist.
                listed = self._listed()
                if not listed:
                    raise NotFoundError(f'queue "{self._name}" not found in SQS')
                self._current = listed[-1].url
            return self._current

    def use(self, action: str, call: Callable[[str], _Result]) -> _Result:
        """Call with the URL of the current queue; repeat once if that generation was replaced in the meantime."""
        url = self.current()
        try:
            return self.call(action, url, call)
        except NotFoundError:
            return self.call(action, self.current(), call)

    def call(self, action: str, url: str, call: Callable[[str], _Result]) -> _Result:
        """Call with the URL of a queue, again while it is too new to be known. Raises `NotFoundError`."""
        while True:
            try:
                with translate_errors(action):
                    return call(url)
            except NotFoundError:
                now = self._clock()
                if now - self._created.get(url, -math.inf) >= _NEW:
                    self._mark_deleted(url, now)
                    raise
            time.sleep(_NEW_PAUSE)

    def _mark_deleted(self, url: str, time: float) -> None:
        with self._lock:
            self._deleted[url] = time
            if self._current == url:
                self._current = None

    def _is_deleted(self, url: str) -> bool:
        return url in self._deleted and self._clock() - self._deleted[url] < _FORGOTTEN_AFTER

    def exists(self) -> bool:
        """Return whether the queue exists now."""
        with self._lock:
            if self._current is not None:
                self._current = self._resolve(self._current)
            if self._current is None:
                self._current = self._find_current()
            return self._current is not None

    def create(self) -> None:
        """Create the queue unless it exists."""
        with self._lock:
            # Listed first: a queue that appears after this is a rival's.
            before = self._listed()
            if not self.exists():
                self._current = self._create_queue(before)

    def replace(self) -> None:
        """Replace the current queue with an empty one of the same type. Raises `NotFoundError`."""
        with self._lock:
            if not self.exists():
                raise NotFoundError(f'queue "{self._name}" not found in SQS')
            old = self._listed()
            spec = attrs.evolve(self._spec, fifo=Generation(0, str(self._current)).fifo)
            known = {each.url for each in old} | {str(self._current)}
            new = self._create_next(old, spec)
            for url in sorted(known - {new}, key=_number):
                self._retire(url, successor=new)
            self._current = new

    def delete(self) -> None:
        """Delete every generation."""
        with self._lock:
            known = {each.url for each in self._listed()} | ({self._current} if self._current else set())
            for url in sorted(known, key=_number):
                self._retire(url, successor=_NO_SUCCESSOR)
            self._current = None

    def _create_queue(self, before: list[Generation]) -> str:
        mine = self._create_next(before, self._spec)
        seen = {each.url for each in before}
        for rival in self._listed():
            if rival.url == mine:
                break
            if rival.url not in seen and (current := self._resolve(rival.url)) is not None and current != mine:
                self._retire(mine, successor=current)
                return current
        return mine

    def _create_next(self, listed: list[Generation], spec: QueueSpec) -> str:
        number = max([int(self._clock() / 60), *(each.number + 1 for each in listed)])
        number = max([number, *(_number(url) + 1 for url in self._deleted)])
        for _ in range(_MAX_NAME_ATTEMPTS):
            name = physical_name(self._prefix, self._name, number, fifo=spec.fifo)
            try:
                with translate_errors(f"creating the queue {name}"):
                    response = self._create(name, spec)
            except ProviderError as error:
                if code_of(error.__cause__ or error) not in _TAKEN:
                    raise
                number += 1
                continue
            if not response.get("QueueUrl"):
                raise ProviderError(f"creating the queue {name}: SQS returned no URL", transient=True)
            url = str(response["QueueUrl"])
            self._created[url] = self._clock()
            return url
        raise ProviderError(f'creating the queue "{self._name}": no free name found in SQS', transient=True)

    def _create(self, name: str, spec: QueueSpec) -> Any:
        attributes = dict(spec.attributes)
        if spec.fifo:
            # High throughput: each message is a group of its own, since order is not needed.
            attributes |= {
                "FifoQueue": "true",
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
            }
        return self._client.create_queue(QueueName=name, Attributes=attributes, tags=dict(spec.tags))

    def _listed(self) -> list[Generation]:
        """Return the listed generations, oldest first, without those known to be deleted."""
        prefix = list_prefix(self._prefix, self._name)
        with translate_errors(f'listing the queues "{prefix}…"'):
            # With a page size SQS returns further pages instead of truncating at 1,000.
            pages = self._client.get_paginator("list_queues").paginate(
                QueueNamePrefix=prefix, PaginationConfig={"PageSize": 1000}
            )
            urls = [url for page in pages for url in page.get("QueueUrls", ())]
        return [each for each in generations(urls, self._prefix, self._name) if not self._is_deleted(each.url)]

    def _find_current(self) -> str | None:
        # The newest decides: older ones were retired before it, or are about to be.
        listed = self._listed()
        while listed:
            newest = listed.pop()
            current = self._resolve(newest.url)
            if current is not None:
                return current
            if not self._is_deleted(newest.url):
                return None
        return None

    def _resolve(self, url: str) -> str | None:
        """Return the queue, or its latest successor; None if it was retired permanently or does not exist."""
        for _ in range(_MAX_SUCCESSORS):
            if self._is_deleted(url):
                return None
            try:
                found = self.call(
                    "reading the tags of a queue", url, lambda at: self._client.list_queue_tags(QueueUrl=at)
                )
            except NotFoundError:
                return None
            successor = (found.get("Tags") or {}).get(RETIRED_TAG)
            if successor is None:
                return url
            if successor == _NO_SUCCESSOR:
                return None
            url = successor
        return None

    def _retire(self, url: str, *, successor: str) -> None:
        tags = {RETIRED_TAG: successor}
        # It may have been deleted earlier.
        with suppress(NotFoundError):
            self.call("tagging a queue as retired", url, lambda at: self._client.tag_queue(QueueUrl=at, Tags=tags))
            self.call("deleting a queue", url, lambda at: self._client.delete_queue(QueueUrl=at))
        self._deleted[url] = math.inf


def _number(url: str) -> int:
    return int(url.removesuffix(".fifo").rpartition("_")[2], 16)
