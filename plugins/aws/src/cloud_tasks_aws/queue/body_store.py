"""Bodies over the size limit of SQS, in S3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin.kit import batched
from cloud_tasks_aws.errors import code_of, translate_errors

__all__ = ["S3BodyStore"]

_KEYS_PER_REQUEST = 1000
"""Limit of "DeleteObjects", Amazon S3 API Reference."""


class S3BodyStore:
    """The bodies of one queue, a `BodyStore`. Thread-safe.

    Args:
        client: A boto3 client of S3.
        location: ``s3://bucket/prefix``.
        queue: Name of the queue.
    """

    def __init__(self, client: Any, location: str, queue: str) -> None:
        parts = urlsplit(location)
        self._client = client
        self._bucket = parts.netloc
        self._prefix = "/".join(part for part in (parts.path.strip("/"), queue) if part) + "/"

    def put(self, name: str, body: bytes) -> None:
        with _translate_errors(f"storing a large message in s3://{self._bucket}"):
            # A response without this field is not one of S3.
            _ = self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body)["ETag"]

    def get(self, name: str) -> bytes | None:
        try:
            with _translate_errors(f"fetching a large message from s3://{self._bucket}"):
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
                _ = found["ETag"]
                return bytes(found["Body"].read())
        except _NoSuchKeyError:
            return None

    def remove(self, names: Sequence[str]) -> None:
        for some in batched(names, most=_KEYS_PER_REQUEST):
            objects = [{"Key": self._prefix + name} for name in some]
            with _translate_errors(f"deleting large messages from s3://{self._bucket}"):
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})

    def names(self) -> list[str]:
        with _translate_errors(f"listing large messages in s3://{self._bucket}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            found = [each for page in pages if page["KeyCount"] for each in page["Contents"]]
            return [each["Key"].removeprefix(self._prefix) for each in found]


class _NoSuchKeyError(ProviderError):
    """The object does not exist."""


@contextmanager
def _translate_errors(action: str) -> Iterator[None]:
    """Translate errors; a missing bucket is not a `NotFoundError`, which would mean that the queue is missing."""
    try:
        with translate_errors(action):
            yield
    except NotFoundError as error:
        kind = _NoSuchKeyError if code_of(error.__cause__ or error) == "NoSuchKey" else ProviderError
        raise kind(error.message, hint="check aws.oversize_location") from error
