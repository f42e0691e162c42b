"""The instances of a job, kept in memory between two changes.

Invariant, with a test: `InstanceCache.read` gives what a fresh read of the tables gives, whatever was written.
Events change what is known of their senders many times a second; only the records of those are made anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from cloud_tasks.model import Money
from cloud_tasks.store.records import InstanceRecord
from cloud_tasks.store.write.instances import booked, cost_of, read_instances, read_senders, with_sender

__all__ = ["InstanceCache"]


class InstanceCache:
    """What the tables say about every launch, the oldest first. Used under the store's lock."""

    def __init__(self) -> None:
        self._records: list[InstanceRecord] | None = None
        self._shown: Sequence[InstanceRecord] = ()
        self._place: dict[str, int] = {}
        """By client token."""
        self._token: dict[str, str] = {}
        """By instance id."""
        self._heard: set[str] = set()
        self._changed: set[str] = set()
        self._booked: Decimal | None = None

    def forget(self) -> None:
        """Anything may have changed."""
        self._records = self._booked = None

    def heard(self, instance_ids: Iterable[str]) -> None:
        """These have sent events."""
        if self._records is not None:
            self._heard.update(instance_ids)

    def changed(self, client_tokens: Iterable[str]) -> None:
        """These launches were written."""
        self._booked = None
        if self._records is not None:
            self._changed.update(client_tokens)

    def instance_changed(self, instance_id: str) -> None:
        """The launch of this instance was written."""
        token = self._token.get(instance_id)
        if token is None:
            self.forget()
        else:
            self.changed((token,))

    def read(self, connection: sqlite3.Connection) -> Sequence[InstanceRecord]:
        """The records as they are now."""
        if self._records is not None and self._changed:
            self._take(read_instances(connection, self._changed))
        if self._records is None:
            self._records = list(read_instances(connection))
            self._place = {record.client_token: place for place, record in enumerate(self._records)}
            self._token = {r.instance_id: r.client_token for r in self._records if r.instance_id is not None}
            self._shown = tuple(self._records)
        elif self._heard:
            known = [instance_id for instance_id in self._heard if instance_id in self._token]
            for instance_id, sender in read_senders(connection, known).items():
                place = self._place[self._token[instance_id]]
                self._records[place] = with_sender(self._records[place], sender)
            self._shown = tuple(self._records)
        self._heard.clear()
        self._changed.clear()
        return self._shown

    def _take(self, records: Sequence[InstanceRecord]) -> None:
        """Put changed records in their places, new ones at the end; where that is not their place, read all anew."""
        assert self._records is not None
        for record in records:
            place = self._place.get(record.client_token)
            if place is not None:
                self._records[place] = record
            elif self._records and record.intended_at < self._records[-1].intended_at:
                self.forget()
                return
            else:
                self._place[record.client_token] = len(self._records)
                self._records.append(record)
            if record.instance_id is not None:
                self._token[record.instance_id] = record.client_token
        self._shown = tuple(self._records)

    def spent(self, connection: sqlite3.Connection, now: datetime) -> Money:
        """What they have cost until ``now``."""
        if self._booked is None:
            self._booked = booked(connection)
        alive = (record for record in self.read(connection) if record.ended_at is None)
        return Money(self._booked + sum((cost_of(record, now) for record in alive), Decimal(0)))
