"""Modes of the job database and its lock: no other user reads results, no planted link is followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_tasks.errors import StoreError
from cloud_tasks.store.db.connection import connect_writer
from cloud_tasks.store.db.writer_lock import WriterLock


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_database_is_for_its_owner_only(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path / "job.db")
    connection = connect_writer(tmp_path / "job.db", create=True)
    connection.execute("CREATE TABLE t (x)")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    connection.close()
    lock.release()
    assert {"job.db", "job.db-wal", "job.db-shm", "job.db.lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "job.db.lock").symlink_to("target")
    with pytest.raises(StoreError, match=r"job\.db\.lock is a symbolic link"):
        WriterLock(tmp_path / "job.db")
    assert (tmp_path / "target").read_text() == "precious"


def test_database_may_be_a_link_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    connect_writer(tmp_path / "disk" / "real.db", create=True).close()
    (tmp_path / "job.db").symlink_to("disk/real.db")
    connect_writer(tmp_path / "job.db", create=False).close()
