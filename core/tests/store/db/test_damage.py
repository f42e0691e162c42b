"""Damage to an open job database by other programs that write to its file."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from store_facts import completed, new_store

from cloud_tasks.errors import StoreError, StoreGoneError
from cloud_tasks.model import TaskStatus
from cloud_tasks.store import Store
from cloud_tasks.store.db import integrity
from cloud_tasks.store.db.integrity import is_sound

TASKS = [f"t{n}" for n in range(3000)]
HALF = TASKS[: len(TASKS) // 2]


def overwrite(path: Path, begin: float, end: float) -> None:
    """Overwrite a part of a file, given as shares of its size, in place."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * begin))
        file.write(os.urandom(int(size * (end - begin))))


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: os.truncate(path, 0),
    "one byte": lambda path: os.truncate(path, 1),
    "cut to half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "last page cut": lambda path: os.truncate(path, path.stat().st_size - 4096),
    "head overwritten": lambda path: overwrite(path, 0, 0.4),
    "middle overwritten": lambda path: overwrite(path, 0.3, 0.7),
    "end overwritten": lambda path: overwrite(path, 0.6, 1),
    "all overwritten": lambda path: path.write_bytes(b"x" * path.stat().st_size),
    "text instead": lambda path: path.write_text("something else"),
    "log emptied": lambda path: os.truncate(log_of(path), 0),
    "log cut": lambda path: os.truncate(log_of(path), 40_000),
    "log overwritten": lambda path: overwrite(log_of(path), 0, 1),
    "both emptied": lambda path: (path.write_bytes(b""), log_of(path).write_bytes(b"")),
}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_PAUSE", 0)


@pytest.mark.parametrize("moment", ["transaction", "check"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_database_is_an_error_and_what_can_be_read_is_kept(
    tmp_path: Path, damage: Callable[[Path], object], moment: str
) -> None:
    store = new_store(tmp_path, TASKS)
    store.apply_events([completed(task) for task in HALF])
    assert log_of(store.path).stat().st_size
    damage(store.path)
    with pytest.raises(StoreGoneError, match=r"job\.db: damaged by another program; (its|what)") as raised:
        store.check_file() if moment == "check" else store.apply_events([completed("t2999")])
    copy = raised.value.copy
    assert copy is not None
    assert copy.name.startswith("job.db.bak-")
    with Store.open(copy, read_only=True) as saved:
        assert saved.job.job_id == "job"
        assert saved.summary().counts[TaskStatus.COMPLETED] > 0
    with pytest.raises(StoreGoneError, match=re.escape(copy.name)):
        store.apply_events([completed("t2998")])
    assert list(tmp_path.glob("job.db.bak-*")) == [copy]
    with contextlib.suppress(StoreError):
        store.close()


def test_damaged_database_of_a_small_job_is_saved_with_all_results(tmp_path: Path) -> None:
    store = new_store(tmp_path, TASKS[:20])
    store.apply_events([completed(task) for task in TASKS[:20]])
    os.truncate(store.path, 0)
    with pytest.raises(StoreGoneError) as raised:
        store.check_file()
    assert raised.value.copy is not None
    with Store.open(raised.value.copy) as saved:
        assert saved.summary().counts[TaskStatus.COMPLETED] == 20
    with contextlib.suppress(StoreError):
        store.close()


def test_damage_in_the_moment_of_a_transaction_is_noticed(tmp_path: Path) -> None:
    def damage() -> None:
        with store._file.writing() as connection:
            connection.execute("DELETE FROM set_aside")
            os.truncate(store.path, store.path.stat().st_size // 2)

    with new_store(tmp_path, TASKS) as store, pytest.raises(StoreGoneError):
        damage()


@pytest.mark.parametrize("way", ["touch", "transaction", "appended"])
def test_harmless_change_of_another_program_is_no_damage(tmp_path: Path, way: str) -> None:
    with new_store(tmp_path, TASKS) as store:
        store.apply_events([completed(task) for task in HALF])
        if way == "touch":
            os.utime(store.path, (1, 1))
            os.utime(log_of(store.path), (1, 1))
        elif way == "appended":
            with store.path.open("ab") as file:
                file.write(b"\0" * 100)
        else:
            with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
                other.execute("CREATE TABLE notes (text TEXT)")
                other.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) "
                              "INSERT INTO notes SELECT hex(randomblob(300)) FROM n")  # fmt: skip
        store.check_file()
        assert store.apply_events([completed("t2999")]).new == 1
    with Store.open(tmp_path / "job.db", read_only=True) as store:
        assert store.summary().counts[TaskStatus.COMPLETED] == len(HALF) + 1


def test_check_of_the_content_keeps_the_locks_of_the_open_database(tmp_path: Path) -> None:
    with new_store(tmp_path, TASKS[:5]) as store:
        assert is_sound(store.path, deep=True)
        with contextlib.closing(sqlite3.connect(store.path)) as other:
            other.execute("SELECT count(*) FROM tasks").fetchone()
        # The last connection would have moved the log into the file and deleted it.
        assert log_of(store.path).exists()
        assert store.apply_events([completed("t1")]).new == 1
