"""Which queue of Azure Storage is the queue of this name now.

A queue that is deleted is gone at once, but its name is refused for 30 seconds or longer, with ``QueueBeingDeleted``
("Delete Queue" in the reference of the Queue service). Instead of waiting, who makes a queue then takes the next name.

Invariants, each with a test:

1. A queue is ours only if its metadata says so: nobody else's is used, deleted, or counted.
2. Everyone who lists takes the lowest generation there is; the listing shows no queue that was deleted.
3. Who makes a queue looks again, and gives way where another one made a lower generation meanwhile.
4. Deleting removes every generation.
"""

from __future__ import annotations

import re
import threading
from typing import Any
from urllib.parse import quote

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.queue.failures import BEING_DELETED, calling, code_of
from cloud_tasks_azure.queue.names import NAME_KEY, base_name, metadata_for, physical_name

__all__ = ["Generations"]

_TAKEN = BEING_DELETED | {"QueueAlreadyExists"}
_MOST = 999


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
        """The queue's name at Azure. Raises `NotFoundError`."""
        with self._lock:
            if self._current is None and not self.exists():
                raise NotFoundError(f'there is no queue "{self._name}" in the storage account')
            return str(self._current)

    def gone(self, physical: str) -> None:
        """Told that there is no such queue (any more)."""
        with self._lock:
            if self._current == physical:
                self._current = None

    def exists(self) -> bool:
        """Whether there is one, asked anew."""
        with self._lock:
            listed = self._listed()
            self._current = physical_name(self._base, listed[0]) if listed else None
            return bool(listed)

    def create(self) -> None:
        """Make the queue unless there is one."""
        with self._lock:
            if self.exists():
                return
            mine = self._make()
            lowest = min(self._listed(), default=mine)
            if lowest < mine:
                self._delete(mine)
            self._current = physical_name(self._base, min(lowest, mine))

    def delete(self) -> None:
        """Remove every generation."""
        with self._lock:
            for generation in reversed(self._listed()):
                self._delete(generation)
            self._current = None

    def _make(self) -> int:
        for generation in range(1, _MOST + 1):
            name = physical_name(self._base, generation)
            try:
                with calling(f"making the queue {name}"):
                    self._service.get_queue_client(name).create_queue(metadata=self._metadata)
            except ProviderError as error:
                # Another one's queue has other metadata, and is refused for that.
                if code_of(error.__cause__) not in _TAKEN:
                    raise
                continue
            return generation
        raise ProviderError(f'no free name was found for the queue "{self._name}"', transient=True)

    def _delete(self, generation: int) -> None:
        try:
            with calling("deleting a queue"):
                self._service.get_queue_client(physical_name(self._base, generation)).delete_queue()
        except NotFoundError:
            # Somebody else was faster.
            pass
        except ProviderError as error:
            if code_of(error.__cause__) not in BEING_DELETED:
                raise

    def _listed(self) -> list[int]:
        """The generations that there are, in order."""
        pattern = re.compile(re.escape(self._base) + r"(?:-([1-9][0-9]{0,2}))?")
        found = []
        with calling(f'listing the queues "{self._base}…"'):
            for each in self._service.list_queues(name_starts_with=self._base, include_metadata=True):
                match = pattern.fullmatch(str(each.name))
                told = {key.lower(): value for key, value in (each.metadata or {}).items()}
                if match is not None and told.get(NAME_KEY) == quote(self._name):
                    found.append(int(match[1] or 1))
        return sorted(found)
