"""Bodies over the size limit of SQS: stored in S3, with a message that contains the key.

Invariants, each with a test:

1. The object is stored before its message is sent, and deleted after the message was acknowledged.
2. A message counts as done only if its object does not exist, never because S3 could not be read.
3. Deleting or purging the queue deletes all of its objects, and no other object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.errors import code_of, translate_errors

__all__ = ["ObjectStore"]


class ObjectStore:
    """The objects of one queue. Thread-safe.

    Args:
        client: A boto3 client of S3.
        location: ``s3://bucket/prefix``.
        name: Name of the queue.
    """

    def __init__(self, client: Any, location: str, name: str) -> None:
        parts = urlsplit(location)
        self._client = client
        self._bucket = parts.netloc
        self._prefix = "/".join(part for part in (parts.path.strip("/"), name) if part) + "/"

    def put(self, body: bytes) -> str:
        """Store a body and return its key."""
        key = f"{self._prefix}{uuid4().hex}"
        with _translate_s3_errors(f"storing a large message in s3://{self._bucket}"):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body)
        return key

    def get(self, key: str) -> bytes | None:
        """Return the body, or None if it was deleted after its message was acknowledged.

        Raises:
            ProviderError: S3 cannot be read, or the key is not of this queue: a message never selects other objects.
        """
        if not key.startswith(self._prefix):
            raise ProviderError(f"message refers to s3://{self._bucket}/{key}, which is not of this queue")
        try:
            with _translate_s3_errors(f"fetching a large message from s3://{self._bucket}"):
                return bytes(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
        except _NoSuchKeyError:
            return None

    def remove(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        chosen = list(keys)
        # Limit of a call: 1,000 keys ("DeleteObjects", Amazon S3 API Reference).
        for start in range(0, len(chosen), 1000):
            objects = [{"Key": key} for key in chosen[start : start + 1000]]
            with _translate_s3_errors(f"deleting large messages from s3://{self._bucket}"):
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})

    def keys(self) -> list[str]:
        """Return the keys of all objects of the queue."""
        with _translate_s3_errors(f"listing large messages in s3://{self._bucket}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            return [found["Key"] for page in pages for found in page.get("Contents", ())]


class _NoSuchKeyError(ProviderError):
    """The object does not exist."""


@contextmanager
def _translate_s3_errors(action: str) -> Iterator[None]:
    """Translate errors; a missing bucket is not a `NotFoundError`, which would mean that the queue is missing."""
    try:
        with translate_errors(action):
            yield
    except NotFoundError as error:
        kind = _NoSuchKeyError if code_of(error.__cause__ or error) == "NoSuchKey" else ProviderError
        raise kind(error.message, hint="check aws.oversize_location") from error
