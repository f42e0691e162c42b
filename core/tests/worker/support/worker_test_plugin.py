"""Plugin with a queue and an instance in a folder, with faults on demand, installed for workers under test."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks import queue_refusal
from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import (
    Compute,
    ComputeBackend,
    ComputeTraits,
    Delivery,
    Depth,
    InstanceContext,
    InstanceSide,
    Queue,
    QueueBackend,
    QueueContext,
    QueueTraits,
    SendFailure,
    hookimpl,
    setting,
)


@attrs.frozen(kw_only=True)
class FolderSettings:
    folder: Path = setting(help="folder of all files", converter=Path)
    token: str | None = setting(
        help="what the queue asks for", default=None, env="FOLDER_TOKEN", secret=True, worker=True
    )


class FolderQueue:
    def __init__(self, folder: Path, name: str, lease: timedelta = timedelta(seconds=60)) -> None:
        self.folder = folder
        self.name = name
        self._file = folder / f"{name}.sqlite"
        self._lease = lease.total_seconds()

    @contextmanager
    def _transaction(self, call: str) -> Iterator[sqlite3.Connection]:
        if (self.folder / f"{self.name}.{call}.fails").exists():
            with (self.folder / "refused").open("a") as file:
                file.write(f"{self.name}.{call}\n")
            raise ProviderError(f"{call} fails at the moment", transient=True)
        if (self.folder / f"{self.name}.{call}.refuses").exists():
            queue_refusal._REFUSED = 0.3
            raise ProviderError(f"{call}: authorization violation")
        if (self.folder / f"{self.name}.{call}.exits").exists():
            sys.exit("planted")
        connection = sqlite3.connect(self._file, timeout=30, isolation_level=None)
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS messages "
                "(id INTEGER PRIMARY KEY, body BLOB, visible REAL, lease TEXT, count INTEGER DEFAULT 0)"
            )
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()

    def create(self) -> None:
        with self._transaction("create"):
            pass

    def delete(self) -> None:
        self._file.unlink(missing_ok=True)

    def purge(self) -> None:
        with self._transaction("purge") as connection:
            connection.execute("DELETE FROM messages")

    def exists(self) -> bool:
        return self._file.exists()

    def send(self, bodies: Sequence[bytes], *, delay: timedelta = timedelta(0)) -> Sequence[SendFailure]:
        with self._transaction("send") as connection:
            visible = time.time() + delay.total_seconds()
            rows = [(body, visible) for body in bodies]
            connection.executemany("INSERT INTO messages (body, visible) VALUES (?, ?)", rows)
        return ()

    def receive(self, max_messages: int, *, wait: timedelta) -> Sequence[Delivery]:
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            found = self._lease_some(max_messages)
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def _lease_some(self, count: int) -> list[Delivery]:
        if not self._file.exists():
            raise NotFoundError("no such queue")
        deliveries = []
        with self._transaction("receive") as connection:
            query = "SELECT id, body, count FROM messages WHERE visible <= ? ORDER BY id LIMIT ?"
            for key, body, seen in connection.execute(query, (time.time(), count)).fetchall():
                lease = f"{key}/{seen + 1}"
                connection.execute(
                    "UPDATE messages SET visible = ?, lease = ?, count = count + 1 WHERE id = ?",
                    (time.time() + self._lease, lease, key),
                )
                deliveries.append(Delivery(lease_id=lease, body=body, delivery_count=seen + 1))
        return deliveries

    def _each(self, call: str, lease_ids: Sequence[str], query: str, *values: Any) -> list[str]:
        with self._transaction(call) as connection:
            return [
                lease
                for lease in lease_ids
                if connection.execute(
                    f"{query} WHERE lease = ? AND visible > ?", (*values, lease, time.time())
                ).rowcount
                == 0
            ]

    def ack(self, lease_ids: Sequence[str]) -> Sequence[str]:
        return self._each("ack", lease_ids, "DELETE FROM messages")

    def release(self, lease_ids: Sequence[str], *, delay: timedelta = timedelta(0)) -> Sequence[str]:
        until = time.time() + delay.total_seconds()
        return self._each("release", lease_ids, "UPDATE messages SET lease = NULL, visible = ?", until)

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> Sequence[str]:
        with (self.folder / "extended").open("a") as file:
            file.writelines(f"{name}\n" for name in lease_ids)
        return self._each("extend", lease_ids, "UPDATE messages SET visible = ?", time.time() + lease.total_seconds())

    def depth(self) -> Depth:
        with self._transaction("depth") as connection:
            now = time.time()
            visible = connection.execute("SELECT count(*) FROM messages WHERE visible <= ?", (now,)).fetchone()[0]
            held = connection.execute("SELECT count(*) FROM messages WHERE visible > ?", (now,)).fetchone()[0]
        return Depth(visible=visible, in_flight=held, exact=True, as_of=datetime.now(UTC))

    def close(self) -> None:
        pass


class FolderMachine:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def identity(self) -> InstanceIdentity:
        return InstanceIdentity(instance_id="machine-7")

    def termination_notice(self) -> TerminationNotice | None:
        if (self._folder / "notice").exists():
            return TerminationNotice(at=None, reason="the folder says so")
        return None


def _log_lines() -> None:
    """Log with both libraries, which nothing has imported before."""
    import logging

    import structlog

    structlog.get_logger().info("A line of structlog", region="x")
    structlog.get_logger().debug("A debug line of structlog")
    logging.getLogger("worker_test_plugin").warning("A warning of %s", "logging")
    logging.getLogger("worker_test_plugin").info("An info line of logging")


@contextmanager
def _open_queue(settings: FolderSettings, context: QueueContext) -> Iterator[Queue]:
    if "FOLDER_LOGS" in os.environ and not context.for_events:
        _log_lines()
    required = settings.folder / "token"
    if required.exists() and settings.token != required.read_text():
        raise ProviderError("the token is wrong")
    yield FolderQueue(settings.folder, context.name, context.lease)


@contextmanager
def _open_compute(settings: FolderSettings, context: Any) -> Iterator[Compute]:
    raise ProviderError("this backend launches no instances")
    yield


@contextmanager
def _open_instance(settings: FolderSettings, context: InstanceContext) -> Iterator[InstanceSide]:
    yield FolderMachine(settings.folder)


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    traits = QueueTraits(
        max_lease=timedelta(hours=1),
        max_message_bytes=256 * 1024,
        receive_batch=100,
        send_batch=100,
        delay=timedelta(minutes=15),
        reports_delivery_count=True,
    )
    return [QueueBackend(name="folder", summary="a folder", settings=FolderSettings, traits=traits, open=_open_queue)]


@hookimpl
def cloud_tasks_register_compute() -> Sequence[ComputeBackend]:
    return [
        ComputeBackend(
            name="folder",
            summary="a folder",
            settings=FolderSettings,
            traits=ComputeTraits(),
            open=_open_compute,
            open_instance=_open_instance,
        )
    ]
