"""Generations of a queue: the storage queues that a queue name has had, of which one is current.

A deleted queue disappears at once, but its name is refused for 30 seconds or longer with ``QueueBeingDeleted`` ("Delete
Queue" in the reference of the Queue service). Instead of waiting, a new queue gets the next name.

Invariants, each with a test:

1. A queue is managed only if its metadata says so: other queues are not used, deleted or counted.
2. The lowest existing generation is the current queue, for every lister; deleted queues are not listed.
3. The creator of a queue lists again, and deletes its own if another process created a lower generation.
4. Deleting removes every generation.
"""

from __future__ import annotations

import re
import threading
from typing import Any
from urllib.parse import quote

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.queue.names import NAME_KEY, base_name, metadata_for, physical_name
from cloud_tasks_azure.queue.queue_errors import BEING_DELETED, code_of, translate_errors

__all__ = ["Generations"]

_TAKEN = BEING_DELETED | {"QueueAlreadyExists"}
_MAX_GENERATION = 999


class Generations:
    """The generations of one queue. Thread-safe.

    Args:
        service: A `QueueServiceClient`.
    """

    def __init__(self, service: Any, prefix: str, name: str, job_id: str) -> None:
        self._service = service
        self._name = name
        self._base = base_name(prefix, name)
        self._metadata = metadata_for(name, job_id)
        self._lock = threading.RLock()
        self._current: str | None = None

    def current(self) -> str:
        """Return the current queue's name in Azure. Raises `NotFoundError`."""
        with self._lock:
            if self._current is None and not self.exists():
                raise NotFoundError(f'queue "{self._name}" not found in the storage account')
            return str(self._current)

    def mark_deleted(self, physical: str) -> None:
        """Record that Azure answered that this queue does not exist."""
        with self._lock:
            if self._current == physical:
                self._current = None

    def exists(self) -> bool:
        """Return whether the queue exists now."""
        with self._lock:
            listed = self._listed()
            self._current = physical_name(self._base, listed[0]) if listed else None
            return bool(listed)

    def create(self) -> None:
        """Create the queue unless it exists."""
        with self._lock:
            if self.exists():
                return
            mine = self._create_queue()
            lowest = min(self._listed(), default=mine)
            if lowest < mine:
                self._delete(mine)
            self._current = physical_name(self._base, min(lowest, mine))

    def delete(self) -> None:
        """Delete every generation."""
        with self._lock:
            for generation in reversed(self._listed()):
                self._delete(generation)
            self._current = None

    def _create_queue(self) -> int:
        for generation in range(1, _MAX_GENERATION + 1):
            name = physical_name(self._base, generation)
            try:
                with translate_errors(f"creating the queue {name}"):
                    self._service.get_queue_client(name).create_queue(metadata=self._metadata)
            except ProviderError as error:
                # A queue with other metadata, which Azure refuses to create again.
                if code_of(error.__cause__) not in _TAKEN:
                    raise
                continue
            return generation
        raise ProviderError(f'creating the queue "{self._name}": no free name found', transient=True)

    def _delete(self, generation: int) -> None:
        try:
            with translate_errors("deleting a queue"):
                self._service.get_queue_client(physical_name(self._base, generation)).delete_queue()
        except NotFoundError:
            # Deleted by another process.
            pass
        except ProviderError as error:
            if code_of(error.__cause__) not in BEING_DELETED:
                raise

    def _listed(self) -> list[int]:
        """Return the existing generations in order."""
        pattern = re.compile(re.escape(self._base) + r"(?:-([1-9][0-9]{0,2}))?")
        found = []
        with translate_errors(f'listing the queues "{self._base}…"'):
            for each in self._service.list_queues(name_starts_with=self._base, include_metadata=True):
                match = pattern.fullmatch(str(each.name))
                metadata = {key.lower(): value for key, value in (each.metadata or {}).items()}
                if match is not None and metadata.get(NAME_KEY) == quote(self._name):
                    found.append(int(match[1] or 1))
        return sorted(found)
