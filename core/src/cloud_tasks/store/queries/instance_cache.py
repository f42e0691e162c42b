"""The instance cache: the records of a job's instances, kept in memory between two changes.

Invariant, with a test: `InstanceCache.read` returns what a read of the tables returns, whatever was written.

Events change the records of their workers many times a second; only those records are built again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from cloud_tasks.model import Money
from cloud_tasks.store.booking import running_cost
from cloud_tasks.store.records import InstanceRecord
from cloud_tasks.store.write.instances import (
    ended_cost,
    read_instances,
    read_worker_totals,
    with_worker,
)

__all__ = ["InstanceCache"]


class InstanceCache:
    """The record of every launch, the oldest first. Not thread-safe: the store calls it under its lock."""

    def __init__(self) -> None:
        self._records: list[InstanceRecord] | None = None
        self._snapshot: Sequence[InstanceRecord] = ()
        self._index: dict[str, int] = {}
        """Position in the records, by client token."""
        self._token: dict[str, str] = {}
        """Client token, by instance id."""
        self._active: set[str] = set()
        """Instance ids with events since the last read."""
        self._changed: set[str] = set()
        """Client tokens of launches written since the last read."""
        self._ended_cost: Decimal | None = None

    def invalidate(self) -> None:
        """Drop everything: any instance may have changed."""
        self._records = self._ended_cost = None

    def events_applied(self, instance_ids: Iterable[str]) -> None:
        """Mark the workers of these instances as changed."""
        if self._records is not None:
            self._active.update(instance_ids)

    def launches_changed(self, client_tokens: Iterable[str]) -> None:
        """Mark these launches as changed."""
        self._ended_cost = None
        if self._records is not None:
            self._changed.update(client_tokens)

    def instance_changed(self, instance_id: str) -> None:
        """Mark the launch of this instance as changed."""
        token = self._token.get(instance_id)
        if token is None:
            self.invalidate()
        else:
            self.launches_changed((token,))

    def read(self, connection: sqlite3.Connection) -> Sequence[InstanceRecord]:
        """Return the current records."""
        if self._records is not None and self._changed:
            self._update(read_instances(connection, self._changed))
        if self._records is None:
            self._records = list(read_instances(connection))
            self._index = {record.client_token: index for index, record in enumerate(self._records)}
            self._token = {r.instance_id: r.client_token for r in self._records if r.instance_id is not None}
            self._snapshot = tuple(self._records)
        elif self._active:
            known = [instance_id for instance_id in self._active if instance_id in self._token]
            for instance_id, worker in read_worker_totals(connection, known).items():
                index = self._index[self._token[instance_id]]
                self._records[index] = with_worker(self._records[index], worker)
            self._snapshot = tuple(self._records)
        self._active.clear()
        self._changed.clear()
        return self._snapshot

    def _update(self, records: Sequence[InstanceRecord]) -> None:
        """Replace changed records and append new ones; drop everything if a new one belongs in between."""
        assert self._records is not None
        for record in records:
            index = self._index.get(record.client_token)
            if index is not None:
                self._records[index] = record
            elif self._records and record.intended_at < self._records[-1].intended_at:
                self.invalidate()
                return
            else:
                self._index[record.client_token] = len(self._records)
                self._records.append(record)
            if record.instance_id is not None:
                self._token[record.instance_id] = record.client_token
        self._snapshot = tuple(self._records)

    def spending(self, connection: sqlite3.Connection, now: datetime) -> Money:
        """Return the cost of all instances until ``now``."""
        if self._ended_cost is None:
            self._ended_cost = ended_cost(connection)
        running = (record for record in self.read(connection) if record.ended_at is None)
        return Money(self._ended_cost + sum((running_cost(record, now) for record in running), Decimal(0)))
