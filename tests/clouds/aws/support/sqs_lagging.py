"""SQS as the stand-ins do not show it: slow to forget and slow to list.

A deleted queue goes on answering and is listed until `forget` is called, its name is refused as long; a new queue is
listed only after `show`. Implements of a boto3 client what the generations of a queue ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["LaggingSqs"]


class LaggingSqs:
    """One account."""

    def __init__(self, *, lists_at_once: bool = True) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        """Of every queue that answers, by address."""
        self.attributes: dict[str, Mapping[str, str]] = {}
        self.deleted: list[str] = []
        """In order."""
        self.shown: set[str] = set()
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda action: None
        """Called ahead of each call, with its name: where others act in between."""
        self._lists_at_once = lists_at_once

    def forget(self) -> None:
        """Let the minute pass: deleted queues are gone."""
        for url in self.deleted:
            self.tags.pop(url, None)
            self.shown.discard(url)

    def show(self) -> None:
        """Let the listing catch up."""
        self.shown = set(self.tags)

    @property
    def living(self) -> list[str]:
        return sorted(set(self.tags) - set(self.deleted))

    def create_queue(self, *, QueueName: str, Attributes: Mapping[str, str], tags: Mapping[str, str]) -> Any:  # noqa: N803 - names of boto3
        self._called("CreateQueue")
        url = f"https://sqs.stand.in/000000000000/{QueueName}"
        if url in self.deleted:
            raise _error("AWS.SimpleQueueService.QueueDeletedRecently", "CreateQueue")
        self.tags.setdefault(url, dict(tags))
        self.attributes[url] = dict(Attributes)
        if self._lists_at_once:
            self.shown.add(url)
        return {"QueueUrl": url}

    def delete_queue(self, *, QueueUrl: str) -> Any:  # noqa: N803 - names of boto3
        self._called("DeleteQueue")
        self._check(QueueUrl, "DeleteQueue")
        self.deleted.append(QueueUrl)
        return {}

    def tag_queue(self, *, QueueUrl: str, Tags: Mapping[str, str]) -> Any:  # noqa: N803 - names of boto3
        self._called("TagQueue")
        self._check(QueueUrl, "TagQueue")
        self.tags[QueueUrl].update(Tags)
        return {}

    def list_queue_tags(self, *, QueueUrl: str) -> Any:  # noqa: N803 - names of boto3
        self._called("ListQueueTags")
        self._check(QueueUrl, "ListQueueTags")
        return {"Tags": dict(self.tags[QueueUrl])}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_queues"
        return self

    def paginate(self, *, QueueNamePrefix: str, PaginationConfig: Mapping[str, int]) -> Iterator[Any]:  # noqa: N803 - names of boto3
        self._called("ListQueues")
        found = sorted(url for url in self.shown if url.rpartition("/")[2].startswith(QueueNamePrefix))
        # One to a page, and a last page that is empty, as SQS may.
        yield from ({"QueueUrls": [url]} for url in found)
        yield {}

    def _called(self, action: str) -> None:
        self.calls.append(action)
        self.before(action)

    def _check(self, url: str, action: str) -> None:
        if url not in self.tags:
            raise _error("AWS.SimpleQueueService.NonExistentQueue", action)


def _error(code: str, action: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as told"}}, action)
