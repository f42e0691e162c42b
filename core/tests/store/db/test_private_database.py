"""Modes of the job database and its lock: no other user reads results, no planted link is followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_facts import completed, new_store

from cloud_tasks.errors import StoreError, StoreGoneError
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


def _loose(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if stat.S_IMODE(path.stat().st_mode) != 0o600]


@pytest.mark.parametrize("umask", [0, 0o022])
def test_copies_of_the_database_are_for_its_owner_only(tmp_path: Path, umask: int) -> None:
    os.umask(umask)
    new_store(tmp_path, ["old"]).close()
    with new_store(tmp_path, ["a", "b"], "job.db.loading") as store:
        assert store.publish(tmp_path / "job.db") is not None
        store.path.unlink()
        store.apply_events([completed("a")])
        assert _loose(tmp_path) == []
        (tmp_path / "other.db").touch(0o600)
        (tmp_path / "other.db").rename(store.path)
        with pytest.raises(StoreGoneError):
            store.apply_events([completed("b")])
    assert len(list(tmp_path.glob("job.db.bak-*"))) == 2
    assert _loose(tmp_path) == []


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
