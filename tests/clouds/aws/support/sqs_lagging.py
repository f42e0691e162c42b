"""SQS fake with delayed creation and deletion, which the emulator lacks.

A deleted queue still answers and blocks its name until `forget` is called. A new queue does not exist yet for its first
`unknown_calls` calls. Implements the methods of a boto3 client that `NamedQueue` calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["LaggingSqs"]


class LaggingSqs:
    """SQS of one account."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        """Tags of every queue that answers, by URL."""
        self.attributes: dict[str, Mapping[str, str]] = {}
        self.deleted: set[str] = set()
        """URLs of deleted queues that still answer."""
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda action: None
        """Called before each call with its action, so that tests can act in between."""
        self.unknown_calls = 0
        """Number of calls for which the next new queues do not exist yet."""
        self._unknown: dict[str, int] = {}

    def forget(self) -> None:
        """Complete the deletions, as SQS does within a minute."""
        for url in self.deleted:
            del self.tags[url], self.attributes[url]
        self.deleted.clear()

    @property
    def existing(self) -> list[str]:
        return sorted(set(self.tags) - self.deleted)

    def create_queue(self, *, QueueName: str, Attributes: Mapping[str, str], tags: Mapping[str, str]) -> Any:  # noqa: N803 - names of boto3
        self._called("CreateQueue")
        url = f"https://sqs.fake/000000000000/{QueueName}"
        if url in self.deleted:
            raise _error("AWS.SimpleQueueService.QueueDeletedRecently", "CreateQueue")
        if self.attributes.setdefault(url, dict(Attributes)) != Attributes:
            raise _error("QueueAlreadyExists", "CreateQueue")
        self.tags.setdefault(url, dict(tags))
        self._unknown.setdefault(url, self.unknown_calls)
        return {"QueueUrl": url}

    def get_queue_url(self, *, QueueName: str) -> Any:  # noqa: N803 - names of boto3
        self._called("GetQueueUrl")
        url = f"https://sqs.fake/000000000000/{QueueName}"
        self._check(url, "GetQueueUrl")
        return {"QueueUrl": url}

    def delete_queue(self, *, QueueUrl: str) -> Any:  # noqa: N803 - names of boto3
        self._called("DeleteQueue")
        self._check(QueueUrl, "DeleteQueue")
        self.deleted.add(QueueUrl)
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

    def _called(self, action: str) -> None:
        self.calls.append(action)
        self.before(action)

    def _check(self, url: str, action: str) -> None:
        self._unknown[url] = self._unknown.get(url, 0) - 1
        if url not in self.tags or self._unknown[url] >= 0:
            raise _error("AWS.SimpleQueueService.NonExistentQueue", action)


def _error(code: str, action: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "injected"}}, action)
