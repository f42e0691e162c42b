"""Bodies that are over the limit of SQS: kept at S3, with a message that says where.

Invariants, each with a test:

1. The object is there before its message is; it goes after the message was acked, never before.
2. A message is taken for done only where its object is gone, not where S3 could not be asked.
3. Deleting or purging the queue removes all of its objects, and no object of anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.failures import calling, code_of

__all__ = ["ObjectStore"]


class ObjectStore:
    """The objects of one queue. Thread-safe.

    Args:
        client: A boto3 client of S3.
        location: ``s3://bucket/prefix``.
        name: Of the queue.
    """

    def __init__(self, client: Any, location: str, name: str) -> None:
        parts = urlsplit(location)
        self._client = client
        self._bucket = parts.netloc
        self._prefix = "/".join(part for part in (parts.path.strip("/"), name) if part) + "/"

    def put(self, body: bytes) -> str:
        """Keep a body; returns its key."""
        key = f"{self._prefix}{uuid4().hex}"
        with _calling(f"keeping a large message at s3://{self._bucket}"):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body)
        return key

    def get(self, key: str) -> bytes | None:
        """The body; None where it is gone: its message was acked.

        Raises:
            ProviderError: It cannot be had, or is not of this queue: a message must not choose what is read or removed.
        """
        if not key.startswith(self._prefix):
            raise ProviderError(f"a message refers to s3://{self._bucket}/{key}, which is not of this queue")
        try:
            with _calling(f"fetching a large message from s3://{self._bucket}"):
                return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except _NoSuchKeyError:
            return None

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        chosen = list(keys)
        # A call takes a thousand: "DeleteObjects", Amazon S3 API Reference.
        for start in range(0, len(chosen), 1000):
            objects = [{"Key": key} for key in chosen[start : start + 1000]]
            with _calling(f"removing large messages from s3://{self._bucket}"):
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})

    def keys(self) -> list[str]:
        """Those of all objects of the queue."""
        with _calling(f"listing large messages at s3://{self._bucket}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            return [found["Key"] for page in pages for found in page.get("Contents", ())]


class _NoSuchKeyError(ProviderError):
    """The one thing that may be missing."""


@contextmanager
def _calling(doing: str) -> Iterator[None]:
    """As `calling`; a missing bucket is a mistake, for `NotFoundError` would mean that the queue is not there."""
    try:
        with calling(doing):
            yield
    except NotFoundError as error:
        kind = _NoSuchKeyError if code_of(error.__cause__ or error) == "NoSuchKey" else ProviderError
        raise kind(error.message, hint="see aws.oversize_location") from error
