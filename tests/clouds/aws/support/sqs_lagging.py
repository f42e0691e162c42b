"""SQS fake with delayed creation, deletion and listing, which the emulator lacks.

A deleted queue still answers, is listed and blocks its name until `forget` is called. A new queue is listed only after
`list_all`, and with `unknown_calls` does not exist yet for its first calls. Implements the methods of a boto3 client
that the generations of a queue call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["LaggingSqs"]


class LaggingSqs:
    """SQS of one account."""

    def __init__(self, *, lists_immediately: bool = True) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        """Tags of every queue that answers, by URL."""
        self.attributes: dict[str, Mapping[str, str]] = {}
        self.deleted: list[str] = []
        """URLs of deleted queues, in order."""
        self.shown: set[str] = set()
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda action: None
        """Called before each call with its action, so that tests can act in between."""
        self.unknown_calls = 0
        """Number of calls for which the next new queues do not exist yet."""
        self._unknown: dict[str, int] = {}
        self._lists_immediately = lists_immediately

    def forget(self) -> None:
        """Complete the deletions, as SQS does within a minute."""
        for url in self.deleted:
            self.tags.pop(url, None)
            self.shown.discard(url)

    def list_all(self) -> None:
        """List every queue."""
        self.shown = set(self.tags)

    @property
    def existing(self) -> list[str]:
        return sorted(set(self.tags) - set(self.deleted))

    def create_queue(self, *, QueueName: str, Attributes: Mapping[str, str], tags: Mapping[str, str]) -> Any:  # noqa: N803 - names of boto3
        self._called("CreateQueue")
        url = f"https://sqs.fake/000000000000/{QueueName}"
        if url in self.deleted:
            raise _error("AWS.SimpleQueueService.QueueDeletedRecently", "CreateQueue")
        self.tags.setdefault(url, dict(tags))
        self._unknown.setdefault(url, self.unknown_calls)
        self.attributes[url] = dict(Attributes)
        if self._lists_immediately:
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
        # One queue per page and an empty last page, as SQS may return.
        yield from ({"QueueUrls": [url]} for url in found)
        yield {}

    def _called(self, action: str) -> None:
        self.calls.append(action)
        self.before(action)

    def _check(self, url: str, action: str) -> None:
        self._unknown[url] = self._unknown.get(url, 0) - 1
        if url not in self.tags or self._unknown[url] >= 0:
            raise _error("AWS.SimpleQueueService.NonExistentQueue", action)


def _error(code: str, action: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "injected"}}, action)
