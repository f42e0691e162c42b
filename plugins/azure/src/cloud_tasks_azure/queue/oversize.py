"""Bodies over the size limit of a message: stored in Blob Storage, with a message that contains the blob's name.

Invariants, each with a test:

1. The blob is stored before its message is sent, and deleted after the message was acknowledged.
2. A message counts as done only if its blob does not exist, never because Blob Storage could not be read.
3. Deleting or purging the queue deletes all of its blobs, and no other blob.
4. A message never selects other blobs: a name that is not of this queue is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.queue.parallel import Threads
from cloud_tasks_azure.queue.queue_errors import code_of, translate_errors

__all__ = ["BlobStore"]


class BlobStore:
    """The blobs of one queue. Thread-safe.

    Args:
        connect: Creates a `ContainerClient` when the first blob is needed.
        folder: Prefix of the names of the queue's blobs.
    """

    def __init__(self, connect: Callable[[], Any], folder: str, threads: Threads) -> None:
        self._connect = connect
        self._prefix = f"{folder}/"
        self._threads = threads
        self._lock = threading.Lock()
        self._opened: Any = None

    def put(self, body: bytes) -> str:
        """Store a body and return its name. A missing container is created."""
        name = f"{self._prefix}{uuid4().hex}"
        try:
            self._upload(name, body)
        except NotFoundError:
            try:
                with translate_errors("creating the container for large messages"):
                    self._client.create_container()
            except ProviderError as error:
                if code_of(error.__cause__) != "ContainerAlreadyExists":
                    raise
            self._upload(name, body)
        return name

    def get(self, name: str) -> bytes | None:
        """Return the body, or None if it was deleted after its message was acknowledged.

        Raises:
            ProviderError: Blob Storage cannot be read, or the name is not of this queue.
        """
        if not name.startswith(self._prefix):
            raise ProviderError(f"message refers to the blob {name}, which is not of this queue")
        try:
            with translate_errors("fetching a large message"):
                return bytes(self._client.download_blob(name).readall())
        except NotFoundError as error:
            if code_of(error.__cause__) == "BlobNotFound":
                return None
            # `NotFoundError` would mean that the queue is missing.
            raise ProviderError(error.message, hint="check azure.oversize_container") from error

    def remove(self, names: Iterable[str]) -> None:
        """Delete blobs; missing ones are ignored."""
        self._threads.map(self._remove_one, names)

    def names(self) -> list[str]:
        """Return the names of all blobs of the queue."""
        try:
            with translate_errors("listing large messages"):
                return [str(name) for name in self._client.list_blob_names(name_starts_with=self._prefix)]
        except NotFoundError:
            # The container is created with the first large message.
            return []

    def close(self) -> None:
        """Close connections."""
        if self._opened is not None:
            self._opened.close()

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._opened = self._connect()
            return self._opened

    def _upload(self, name: str, body: bytes) -> None:
        with translate_errors("storing a large message"):
            self._client.upload_blob(name, body, overwrite=True)

    def _remove_one(self, name: str) -> None:
        try:
            with translate_errors("deleting a large message"):
                self._client.delete_blob(name)
        except NotFoundError:
            pass
