"""Queue in one SQLite file shared by many processes and threads of this machine.

Invariants, each with a test:

1. A message has at most one valid lease: it is selected and leased in one write transaction.
2. A message stays in the queue until it is acked: after its lease expires, or its process is killed, it is delivered
   again.
3. A lease id names one delivery. After redelivery, release, purge or deletion the id is lost, even if a queue of the
   same name is created later.
4. A message that `send` did not report as failed survives ``kill -9`` of any process at any time. It may not survive a
   power failure (``synchronous=NORMAL``: the file stays consistent, but the last transactions can be missing); the
   job's database and ``--continue`` cover that.
5. A message whose delay has passed is delivered before those that never had one: a retry is not the last of all tasks.
6. A row of any content, written by another program, is delivered: its body as bytes, its time as due if it is invalid.
7. The file is never removed while it may be in use: `delete` drops the table in a transaction, so all processes see the
   end of the old queue and the start of the new one in the same order.
"""

from __future__ import annotations

import errno
import math
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError, ProviderError
from cloud_tasks.plugin import Delivery, Depth, QueueContext, QueueOwner, SendFailure
from cloud_tasks.plugin.kit import safe_name, send_bodies
from cloud_tasks_local.connection_pool import Connection, ConnectionPool, write
from cloud_tasks_local.controller_claim import ControllerClaim
from cloud_tasks_local.private_files import StateFolder, StateFolderGoneError
from cloud_tasks_local.settings import LocalSettings
from cloud_tasks_local.traits import QUEUE_TRAITS as TRAITS

__all__ = ["SqliteQueue", "open_queue", "queue_file"]

_DELAYED = "delayed"
"""In place of a lease: the message was sent or released with a delay, and is due when that has passed."""
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, visible_at REAL NOT NULL,"
    " deliveries INTEGER NOT NULL DEFAULT 0, lease TEXT, body BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS owner (only INTEGER PRIMARY KEY CHECK (only = 1), job_id TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_visibility ON messages (visible_at)",
    # Small: the messages that wait for their delay, and those whose delay has passed.
    f"CREATE INDEX IF NOT EXISTS delayed ON messages (visible_at) WHERE lease = '{_DELAYED}'",
)
_LONGEST = max(TRAITS.max_lease, TRAITS.delay).total_seconds() + 3600.0
"""Maximum seconds for which a message is hidden, with an hour for a clock that was set back."""
_DELIVERIES = "CASE WHEN typeof(deliveries) = 'integer' AND deliveries BETWEEN 0 AND 1000000 THEN deliveries ELSE 0 END"
"""The number of deliveries; 0 for an invalid one, which says nothing about interruptions."""
_MAX_NAME = 200
"""Characters, of the 255 of a file name: SQLite's own files have a suffix."""
_INITIAL_POLL, _MAX_POLL = 0.002, 0.05


def queue_file(state_dir: Path, name: str) -> Path:
    """Return the file of a queue; any name gives a valid and unique file name."""
    file = safe_name(quote(name, safe=""), allowed=r"\w.~%-", longest=_MAX_NAME)
    return state_dir / "queues" / f"{file}.sqlite3"


def open_queue(settings: LocalSettings, context: QueueContext) -> SqliteQueue:
    """Implement `QueueBackend.open`."""
    return SqliteQueue(queue_file(settings.state_dir, context.name), lease=context.lease, job_id=context.job_id)


class SqliteQueue:
    """The `Queue` of one file.

    Args:
        path: File of the queue; `create` creates its folder.
        lease: First lease of a received message.
        clock: Unix time, common to all processes that share the file.
        timeout: Time limit for waiting on other writers, then a transient error.
        job_id: Job that `create` records as the owner; empty for none.
    """

    def __init__(
        self,
        path: Path,
        *,
        lease: timedelta,
        clock: Callable[[], float] = time.time,
        timeout: timedelta = timedelta(seconds=60),
        job_id: str = "",
    ) -> None:
        self._path = path
        self._job_id = job_id
        self._state = StateFolder(path.parent.parent)
        self._claim = ControllerClaim(path, self._state, job_id)
        self._lease = min(lease, TRAITS.max_lease).total_seconds()
        self._clock = clock
        self._pool = ConnectionPool(path, timeout.total_seconds())

    def create(self) -> None:
        try:
            self._state.make(self._path.parent)
        except OSError as error:
            raise _unusable_folder(self._path.parent, error) from error
        with self._pool.connection(create=True) as connection, write(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
            if self._job_id:
                connection.execute("INSERT OR IGNORE INTO owner VALUES (1, ?)", (self._job_id,))

    def delete(self) -> None:
        with suppress(NotFoundError), self._pool.connection() as connection:
            with write(connection):
                connection.execute("DROP TABLE IF EXISTS messages")
                connection.execute("DROP TABLE IF EXISTS owner")
            _shrink(connection)

    def purge(self) -> None:
        with self._pool.connection() as connection:
            with write(connection):
                connection.execute("DELETE FROM messages")
            _shrink(connection)

    def exists(self) -> bool:
        try:
            with self._pool.connection() as connection:
                connection.execute("SELECT 1 FROM messages LIMIT 1").fetchone()
        except NotFoundError:
            return False
        return True

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        mark = _DELAYED if delay > timedelta(0) else None

        def send(batch: Sequence[bytes]) -> None:
            with self._pool.connection() as connection:
                visible_at = self._clock() + min(delay, TRAITS.delay).total_seconds()
                with write(connection):
                    connection.executemany(
                        "INSERT INTO messages (visible_at, lease, body) VALUES (?, ?, ?)",
                        [(visible_at, mark, body) for body in batch],
                    )

        return send_bodies(bodies, send, traits=TRAITS)

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        deadline = time.monotonic() + wait.total_seconds()
        limit = min(max_messages, TRAITS.receive_batch)
        while True:
            with self._pool.connection() as connection:
                deliveries = self._poll(connection, limit, deadline)
            if deliveries is not None:
                return deliveries

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._update_leases("DELETE FROM messages WHERE id = ? AND lease = ?", (), lease_ids)

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        visible_at = self._clock() + min(delay, TRAITS.delay).total_seconds()
        mark = _DELAYED if delay > timedelta(0) else None
        statement = "UPDATE messages SET lease = ?, visible_at = ? WHERE id = ? AND lease = ?"
        return self._update_leases(statement, (mark, visible_at), lease_ids)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        visible_at = self._clock() + min(lease, TRAITS.max_lease).total_seconds()
        return self._update_leases(
            "UPDATE messages SET visible_at = ? WHERE id = ? AND lease = ?", (visible_at,), lease_ids
        )

    def depth(self) -> Depth:
        """Return the exact depth. `Depth.in_flight` includes delayed messages, so both figures together are the whole
        queue."""
        now = self._clock()
        with self._pool.connection() as connection:
            total, visible = connection.execute(
                "SELECT (SELECT COUNT(*) FROM messages),"
                " (SELECT COUNT(*) FROM messages WHERE visible_at <= ?)"
                " + (SELECT COUNT(*) FROM messages WHERE visible_at > ?)",
                (now, now + _LONGEST),
            ).fetchone()
        as_of = datetime.fromtimestamp(now, UTC)
        return Depth(visible=visible, in_flight=total - visible, exact=True, as_of=as_of)

    def owner(self) -> QueueOwner | None:
        job_id = ""
        with suppress(NotFoundError), self._pool.connection() as connection:
            found = connection.execute("SELECT job_id FROM owner").fetchone()
            job_id = found[0] if found is not None else ""
        controller, job_of_controller = self._claim.holder()
        job_id = job_id or job_of_controller
        return QueueOwner(job_id=job_id, controller=controller) if job_id or controller else None

    def claim(self) -> None:
        try:
            is_taken = self._claim.take()
        except OSError as error:
            raise _unusable_folder(self._path.parent, error) from error
        if not is_taken:
            owner = self.owner()
            of = f"of job {owner.job_id} " if owner is not None and owner.job_id else ""
            by = owner.controller if owner is not None and owner.controller else "another process"
            raise ProviderError(
                f"queue {self._path} is in use by the controller {of}({by})",
                hint="wait until that one ends, stop it, or choose another --job-id or --queue-name",
            )

    def close(self) -> None:
        self._claim.release()
        self._pool.close()

    def _poll(self, connection: Connection, limit: int, deadline: float) -> list[Delivery] | None:
        """Wait for messages until the deadline; return None when the file was replaced meanwhile.

        The connection stays with this call, as ``data_version`` shows only the writes of other connections.
        """
        poll, version, next_visible = _INITIAL_POLL, None, -math.inf
        while True:
            before, version = version, connection.execute("PRAGMA data_version").fetchone()[0]
            # Query only after a write, or when the first hidden message becomes visible.
            if version != before or self._clock() >= next_visible:
                deliveries = self._lease_visible(connection, limit)
                if deliveries:
                    return deliveries
                next_visible = self._next_visible(connection)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return []
            time.sleep(min(poll, remaining, max(next_visible - self._clock(), 0.001)))
            poll = min(poll * 1.5, _MAX_POLL)
            if not self._pool.is_current(connection):
                return None

    def _lease_visible(self, connection: Connection, limit: int) -> list[Delivery]:
        if limit < 1 or not _choose(connection, self._clock(), 1):
            return []
        token = secrets.token_hex(8)
        with write(connection):
            now = self._clock()
            chosen = _choose(connection, now, limit)
            connection.executemany(
                "UPDATE messages SET visible_at = ?, lease = ?, deliveries = ? WHERE id = ?",
                [(now + self._lease, token, count, row) for row, count, _ in chosen],
            )
        return [Delivery(lease_id=f"{row}.{token}", body=body, delivery_count=count) for row, count, body in chosen]

    def _next_visible(self, connection: sqlite3.Connection) -> float:
        valid = self._clock() + _LONGEST
        row = connection.execute("SELECT MIN(visible_at) FROM messages WHERE visible_at <= ?", (valid,)).fetchone()
        earliest = row[0]
        return math.inf if earliest is None else float(earliest)

    def _update_leases(
        self, statement: str, values: tuple[float | str | None, ...], lease_ids: Sequence[str]
    ) -> list[str]:
        """Run a statement for each lease in one transaction; return the leases without a matching row."""
        lost = []
        if lease_ids:
            with self._pool.connection() as connection, write(connection):
                for lease_id in lease_ids:
                    row_id, _, token = lease_id.partition(".")
                    if token == _DELAYED or not connection.execute(statement, (*values, row_id, token)).rowcount:
                        lost.append(lease_id)
        return lost


def _choose(connection: sqlite3.Connection, now: float, limit: int) -> list[tuple[int, int, bytes]]:
    """Return the visible messages to deliver next: those whose delay has passed, then the others by age.

    The last are messages with an invalid time: later than any valid one; in SQLite, text and blobs are, too.
    """
    select = f"SELECT id, {_DELIVERIES} + 1, CAST(body AS BLOB) FROM messages WHERE visible_at"
    columns = f"{select} <= ?"
    end = "ORDER BY visible_at, id LIMIT ?"
    chosen = connection.execute(f"{columns} AND lease = '{_DELAYED}' {end}", (now, limit)).fetchall()
    if len(chosen) < limit:
        others = f"{columns} AND lease IS NOT '{_DELAYED}' {end}"
        chosen += connection.execute(others, (now, limit - len(chosen))).fetchall()
    if len(chosen) < limit:
        invalid = f"{select} > ? {end}"
        chosen += connection.execute(invalid, (now + _LONGEST, limit - len(chosen))).fetchall()
    return chosen


_SHORTAGES = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE)


def _unusable_folder(folder: Path, error: OSError) -> CloudTasksError:
    """Return the error for a folder that cannot be created or written to: bad input, unless the system lacks means."""
    if isinstance(error, StateFolderGoneError):
        return InputError(f"{error.filename} was {error.strerror}", where="local.state_dir", hint="restore the folder")
    if error.errno in _SHORTAGES:
        return ProviderError(f"cannot use the folder {folder}: {error.strerror}")
    return InputError(
        f"cannot use the folder {folder}: {error.strerror}", where="local.state_dir", hint="choose another folder"
    )


def _shrink(connection: sqlite3.Connection) -> None:
    """Release the disk space of a large queue, unless the file is locked."""
    with suppress(sqlite3.OperationalError):
        if connection.execute("PRAGMA freelist_count").fetchone()[0] > 1000:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
