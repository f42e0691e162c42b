"""Which queue of SQS is the queue of this name now.

SQS takes up to a minute to delete or purge a queue. Meanwhile it answers for the old one, accepts messages that
will be gone, and refuses the name ("DeleteQueue", "PurgeQueue", Amazon SQS API Reference). So nothing is ever purged or
made again under its old name: a new generation takes the place, and the old one is marked as retired, then deleted.

Invariants, each with a test:

1. The newest generation that is not retired is the queue; everyone who lists finds the same one.
2. A generation is marked before it is deleted, so that who makes or looks for a queue takes none for living that SQS
   still shows; where it was replaced, the mark names its successor, which the listing may not show yet. Who only uses
   the queue takes the newest that is listed, and looks again when SQS says that it is gone.
3. Generations are deleted from the oldest to the newest: a deletion that was cut short leaves a queue, not a past.
4. Two that make the queue within one minute choose the same name, which SQS makes once. Across the turn of a minute the
   lower number stays: the maker of the other deletes it and takes that one.
5. What this object made or deleted itself is known here and not asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.failures import calling, code_of
from cloud_tasks_aws.queue.names import Generation, generations, list_prefix, physical_name

__all__ = ["RETIRED_TAG", "Generations", "QueueShape"]

RETIRED_TAG = "cloud-tasks-retired"
"""On a queue that is no more: the address of its successor, or ``deleted``."""
_NO_SUCCESSOR = "deleted"
_NAME_TRIES = 5
# Somebody else's, with other attributes, or one that was deleted within the last minute.
_TAKEN = frozenset({"QueueAlreadyExists", "QueueDeletedRecently", "QueueNameExists"})
_LONGEST_CHAIN = 20


@attrs.frozen(kw_only=True)
class QueueShape:
    """What a new generation is made with."""

    fifo: bool
    attributes: Mapping[str, str]
    tags: Mapping[str, str]


class Generations:
    """The generations of one queue. Thread-safe.

    Args:
        client: A boto3 client of SQS.
        clock: Unix time.
    """

    def __init__(
        self, client: Any, prefix: str, name: str, shape: QueueShape, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._name = name
        self._shape = shape
        self._clock = clock
        self._lock = threading.RLock()
        self._current: str | None = None
        self._gone: set[str] = set()

    def current(self) -> str:
        """The address of the queue. Raises `NotFoundError`."""
        with self._lock:
            if self._current is None:
                # Marks are not read here: calls about tags are few for an account, and workers are many. The newest
                # that is listed is either the queue, or says within a minute that it is not there.
                listed = self._listed()
                if not listed:
                    raise NotFoundError(f'there is no queue "{self._name}" at SQS')
                self._current = listed[-1].url
            return self._current

    def gone(self, url: str) -> None:
        """Told that SQS has no such queue (any more)."""
        with self._lock:
            self._gone.add(url)
            if self._current == url:
                self._current = None

    def exists(self) -> bool:
        """Whether there is one, asked anew."""
        with self._lock:
            if self._current is not None:
                self._current = self._living_end(self._current)
            if self._current is None:
                self._current = self._newest_living()
            return self._current is not None

    def create(self) -> None:
        """Make the queue unless there is one."""
        with self._lock:
            if not self.exists():
                self._current = self._make()

    def replace(self) -> None:
        """Put an empty queue of the same kind in the place of the current one. Raises `NotFoundError`."""
        with self._lock:
            if not self.exists():
                raise NotFoundError(f'there is no queue "{self._name}" at SQS')
            old = self._listed()
            shape = attrs.evolve(self._shape, fifo=Generation(0, str(self._current)).fifo)
            known = {each.url for each in old} | {str(self._current)}
            new = self._create_next(old, shape)
            for url in sorted(known - {new}, key=_number):
                self._retire(url, successor=new)
            self._current = new

    def delete(self) -> None:
        """Remove every generation."""
        with self._lock:
            known = {each.url for each in self._listed()} | ({self._current} if self._current else set())
            for url in sorted(known, key=_number):
                self._retire(url, successor=_NO_SUCCESSOR)
            self._current = None

    def _make(self) -> str:
        before = self._listed()
        mine = self._create_next(before, self._shape)
        seen = {each.url for each in before}
        for rival in self._listed():
            if rival.url == mine:
                break
            if rival.url not in seen and (living := self._living_end(rival.url)) is not None and living != mine:
                self._retire(mine, successor=living)
                return living
        return mine

    def _create_next(self, listed: list[Generation], shape: QueueShape) -> str:
        number = max([int(self._clock() / 60), *(each.number + 1 for each in listed)])
        number = max([number, *(_number(url) + 1 for url in self._gone)])
        for _ in range(_NAME_TRIES):
            name = physical_name(self._prefix, self._name, number, fifo=shape.fifo)
            try:
                with calling(f"making the queue {name}"):
                    answer = self._create(name, shape)
            except ProviderError as error:
                if code_of(error.__cause__ or error) not in _TAKEN:
                    raise
                number += 1
                continue
            if not answer.get("QueueUrl"):
                raise ProviderError(f"SQS did not tell the address of the queue {name}", transient=True)
            return str(answer["QueueUrl"])
        raise ProviderError(f'no free name was found at SQS for the queue "{self._name}"', transient=True)

    def _create(self, name: str, shape: QueueShape) -> Any:
        attributes = dict(shape.attributes)
        if shape.fifo:
            # High throughput: each message is a group of its own, order is not asked for.
            attributes |= {
                "FifoQueue": "true",
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
            }
        return self._client.create_queue(QueueName=name, Attributes=attributes, tags=dict(shape.tags))

    def _listed(self) -> list[Generation]:
        """What SQS lists, oldest first, less what is known to be gone."""
        prefix = list_prefix(self._prefix, self._name)
        with calling(f'listing the queues "{prefix}…"'):
            # A page size makes SQS give the rest in further pages, instead of cutting at 1,000.
            pages = self._client.get_paginator("list_queues").paginate(
                QueueNamePrefix=prefix, PaginationConfig={"PageSize": 1000}
            )
            urls = [url for page in pages for url in page.get("QueueUrls", ())]
        return [each for each in generations(urls, self._prefix, self._name) if each.url not in self._gone]

    def _newest_living(self) -> str | None:
        # The newest decides: whatever is older was retired before it, or is about to be.
        listed = self._listed()
        while listed:
            newest = listed.pop()
            living = self._living_end(newest.url)
            if living is not None:
                return living
            if newest.url not in self._gone:
                return None
        return None

    def _living_end(self, url: str) -> str | None:
        """The queue itself, or the one that took its place; None where it is retired for good or not there."""
        for _ in range(_LONGEST_CHAIN):
            if url in self._gone:
                return None
            try:
                with calling("asking for the marks of a queue"):
                    tags = self._client.list_queue_tags(QueueUrl=url).get("Tags") or {}
            except NotFoundError:
                self._gone.add(url)
                return None
            successor = tags.get(RETIRED_TAG)
            if successor is None:
                return url
            if successor == _NO_SUCCESSOR:
                return None
            url = successor
        return None

    def _retire(self, url: str, *, successor: str) -> None:
        try:
            with calling("marking a queue as retired"):
                self._client.tag_queue(QueueUrl=url, Tags={RETIRED_TAG: successor})
            with calling("deleting a queue"):
                self._client.delete_queue(QueueUrl=url)
        except NotFoundError:
            # It was deleted before.
            pass
        self._gone.add(url)


def _number(url: str) -> int:
    return int(url.removesuffix(".fifo").rpartition("_")[2], 16)
