"""Who sent events: the workers, as the events themselves name them."""

from __future__ import annotations

import sqlite3

__all__ = ["WorkerRecord", "Workers"]

_WRITE = """
INSERT INTO hosts (host, instance_id, hostname, last_heard, last_busy, running, finished, completed, spot_terminated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (host) DO UPDATE SET last_heard = excluded.last_heard, last_busy = excluded.last_busy,
    running = excluded.running, finished = excluded.finished, completed = excluded.completed,
    spot_terminated_at = excluded.spot_terminated_at
"""
_COLUMNS = "host, instance_id, hostname, last_heard, last_busy, running, finished, completed, spot_terminated_at"


class WorkerRecord:
    """One sender while a batch is applied."""

    __slots__ = (
        "completed_tasks", "finished_tasks", "hostname", "instance_id", "key", "last_busy", "last_heard", "running",
        "spot_terminated_at",
    )  # fmt: skip

    def __init__(
        self,
        key: int,
        instance_id: str,
        hostname: str,
        last_heard: float,
        last_busy: float | None = None,
        running: int = 0,
        finished: int = 0,
        completed: int = 0,
        spot_terminated_at: float | None = None,
    ) -> None:
        self.key = key
        self.instance_id = instance_id
        self.hostname = hostname
        self.last_heard = last_heard
        self.last_busy = last_busy
        self.running = running
        self.finished_tasks = finished
        self.completed_tasks = completed
        self.spot_terminated_at = spot_terminated_at

    def busy(self, at: float) -> None:
        if self.last_busy is None or at > self.last_busy:
            self.last_busy = at

    def finished(self, *, completed: bool) -> None:
        """A task reached a final status here."""
        self.finished_tasks += 1
        self.completed_tasks += completed

    def spot_terminated(self, at: float) -> None:
        if self.spot_terminated_at is None or at < self.spot_terminated_at:
            self.spot_terminated_at = at


class Workers:
    """The senders of a batch, read as they come up, written once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._by_name: dict[tuple[str, str], WorkerRecord] = {}
        self._by_key: dict[int, WorkerRecord] = {}
        self._next: int | None = None

    def heard(self, instance_id: str, hostname: str, at: float) -> WorkerRecord:
        """The sender of this name, known or new, heard at this time."""
        host = self._by_name.get((instance_id, hostname))
        if host is None:
            host = self._read("instance_id = ? AND hostname = ?", (instance_id, hostname))
            if host is None:
                host = self._keep(WorkerRecord(self._new_key(), instance_id, hostname, at))
        if at > host.last_heard:
            host.last_heard = at
        return host

    def by_key(self, key: int) -> WorkerRecord:
        """A sender that is known."""
        host = self._by_key.get(key) or self._read("host = ?", (key,))
        assert host is not None, "attempts only name hosts that are in their table"
        return host

    def _read(self, condition: str, values: tuple[object, ...]) -> WorkerRecord | None:
        row = self._connection.execute(f"SELECT {_COLUMNS} FROM hosts WHERE {condition}", values).fetchone()
        return None if row is None else self._keep(WorkerRecord(*row))

    def _keep(self, host: WorkerRecord) -> WorkerRecord:
        self._by_name[host.instance_id, host.hostname] = host
        self._by_key[host.key] = host
        return host

    def _new_key(self) -> int:
        if self._next is None:
            (self._next,) = self._connection.execute("SELECT coalesce(max(host), 0) + 1 FROM hosts").fetchone()
        key = self._next
        self._next += 1
        return key

    def write(self) -> None:
        self._connection.executemany(
            _WRITE,
            [
                (
                    host.key,
                    host.instance_id,
                    host.hostname,
                    host.last_heard,
                    host.last_busy,
                    host.running,
                    host.finished_tasks,
                    host.completed_tasks,
                    host.spot_terminated_at,
                )
                for host in self._by_key.values()
            ],
        )
