"""Bodies that are too large for a message: kept at Blob Storage, with a message that says where.

Invariants, each with a test:

1. The blob is there before its message is; it goes after the message was acknowledged, never before.
2. A message is taken for done only where its blob is gone, not where Blob Storage could not be asked.
3. Deleting or purging the queue removes all of its blobs, and no blob of anything else.
4. A message does not choose what is read or removed: a name that is not of this queue is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.queue.failures import calling, code_of
from cloud_tasks_azure.queue.parallel import Threads

__all__ = ["BlobStore"]


class BlobStore:
    """The blobs of one queue. Thread-safe.

    Args:
        connect: Makes a `ContainerClient`; asked when the first blob is needed.
        folder: What the names of the queue's blobs begin with.
    """

    def __init__(self, connect: Callable[[], Any], folder: str, threads: Threads) -> None:
        self._connect = connect
        self._prefix = f"{folder}/"
        self._threads = threads
        self._lock = threading.Lock()
        self._made: Any = None

    def put(self, body: bytes) -> str:
        """Keep a body; returns its name. The container is made where there is none."""
        name = f"{self._prefix}{uuid4().hex}"
        try:
            self._upload(name, body)
        except NotFoundError:
            try:
                with calling("making the container for large messages"):
                    self._client.create_container()
            except ProviderError as error:
                if code_of(error.__cause__) != "ContainerAlreadyExists":
                    raise
            self._upload(name, body)
        return name

    def get(self, name: str) -> bytes | None:
        """The body; None where it is gone: its message was acknowledged.

        Raises:
            ProviderError: It cannot be had, or is not of this queue.
        """
        if not name.startswith(self._prefix):
            raise ProviderError(f"a message refers to the blob {name}, which is not of this queue")
        try:
            with calling("fetching a large message"):
                return bytes(self._client.download_blob(name).readall())
        except NotFoundError as error:
            if code_of(error.__cause__) == "BlobNotFound":
                return None
            # Not to be taken for the queue's own absence.
            raise ProviderError(error.message, hint="see azure.oversize_container") from error

    def remove(self, names: Iterable[str]) -> None:
        """Remove blobs; those that are not there are no error."""
        self._threads.map(self._remove_one, names)

    def names(self) -> list[str]:
        """Those of all blobs of the queue."""
        try:
            with calling("listing large messages"):
                return [str(name) for name in self._client.list_blob_names(name_starts_with=self._prefix)]
        except NotFoundError:
            # No container: nothing was ever too large.
            return []

    def close(self) -> None:
        """Free connections."""
        if self._made is not None:
            self._made.close()

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _upload(self, name: str, body: bytes) -> None:
        with calling("keeping a large message"):
            self._client.upload_blob(name, body, overwrite=True)

    def _remove_one(self, name: str) -> None:
        try:
            with calling("removing a large message"):
                self._client.delete_blob(name)
        except NotFoundError:
            pass
