"""Bodies over the size limit of a message, in Blob Storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin.kit import FanOut
from cloud_tasks_azure.queue.queue_errors import code_of, translate_errors

__all__ = ["BlobBodyStore"]


class BlobBodyStore:
    """The bodies of one queue, a `BodyStore`. Thread-safe.

    Args:
        connect: Creates a `ContainerClient` when the first body is needed.
        folder: Prefix of the names of the queue's blobs.
        threads: Maximum number of parallel deletions.
    """

    def __init__(self, connect: Callable[[], Any], folder: str, threads: int) -> None:
        self._connect = connect
        self._prefix = f"{folder}/"
        self._fan_out = FanOut(threads, "cloud-tasks-blobs")
        self._lock = threading.Lock()
        self._opened: Any = None

    def put(self, name: str, body: bytes) -> None:
        """Store a body. A missing container is created."""
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

    def get(self, name: str) -> bytes | None:
        try:
            with translate_errors("fetching a large message"):
                return bytes(self._client.download_blob(self._prefix + name).readall())
        except NotFoundError as error:
            if code_of(error.__cause__) == "BlobNotFound":
                return None
            raise ProviderError(error.message, hint="check azure.oversize_container") from error

    def remove(self, names: Sequence[str]) -> None:
        self._fan_out.map(self._remove_one, names)

    def names(self) -> list[str]:
        # The container is created with the first large message.
        with suppress(NotFoundError), translate_errors("listing large messages"):
            found = self._client.list_blob_names(name_starts_with=self._prefix)
            return [str(name).removeprefix(self._prefix) for name in found]
        return []

    def close(self) -> None:
        """Close connections."""
        self._fan_out.close()
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
            self._client.upload_blob(self._prefix + name, body, overwrite=True)

    def _remove_one(self, name: str) -> None:
        with suppress(NotFoundError), translate_errors("deleting a large message"):
            self._client.delete_blob(self._prefix + name)
