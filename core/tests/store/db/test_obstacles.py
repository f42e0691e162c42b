"""Obstacles of the job database: locks of other programs, a full disk, deleted and replaced files."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import small_disk
from store_facts import at, completed, new_store

from cloud_tasks.errors import StoreBusyError, StoreError, StoreFullError, StoreGoneError, StoreUnavailableError
from cloud_tasks.model import Task
from cloud_tasks.store import Store
from cloud_tasks.store.db import connection as database
from cloud_tasks.store.db.backups import backup_path
from cloud_tasks.store.db.obstacles import store_error
from cloud_tasks.store.db.writer_lock import writer_of


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)


@contextlib.contextmanager
def locked(path: Path, mode: str = "EXCLUSIVE") -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {mode}")
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=8m") as folder:
        yield folder


def fill(folder: Path) -> Path:
    file = folder / "filler"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as target:
        while True:
            target.write(b"x" * 4096)
    return file


def test_lock_of_another_program_is_an_obstacle_that_passes(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        with locked(store.path):
            with pytest.raises(StoreBusyError, match=r"job\.db: locked by another program; close the program"):
                store.apply_events([completed("a")])
            assert store.remaining() == 1
        assert store.apply_events([completed("a")]).new == 1
        assert store.remaining() == 0


def test_lock_of_another_process_is_reported_with_its_pid(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        program += "c.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
        with subprocess.Popen(
            ["python3", "-c", program, store.path], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            with pytest.raises(StoreBusyError, match=rf"locked by a program \(PID {holder.pid}\)"):
                store.apply_events([completed("a")])
            holder.communicate()


def test_lock_that_was_waited_for_delays_later_calls_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 5.0)
    with new_store(tmp_path, ["a"]) as store, locked(store.path):
        waits = []
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(StoreBusyError):
                store.check_writable()
            waits.append(time.monotonic() - started)
        assert waits[0] > max(waits[1:])


@pytest.mark.parametrize("read_only", [True, False])
def test_open_of_a_locked_database_says_so(tmp_path: Path, read_only: bool) -> None:
    new_store(tmp_path, ["a"]).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "job.db", isolation_level=None)) as other:
        # As a program in rollback mode does, which excludes readers.
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusyError, match="locked by another program"):
            Store.open(tmp_path / "job.db", read_only=read_only)
    Store.open(tmp_path / "job.db").close()


def complete_all(store: Store) -> None:
    for n in range(100):
        store.apply_events([completed(f"t{n}", event_id=f"e{n}")])


def test_full_disk_is_an_obstacle_that_passes(disk: Path) -> None:
    with new_store(disk, [f"t{n}" for n in range(100)]) as store:
        filler = fill(disk)
        with pytest.raises(StoreFullError, match=r"job\.db: no space left on the disk; free disk space"):
            complete_all(store)
        before = store.remaining()
        filler.unlink()
        complete_all(store)
        assert before > store.remaining() == 0


def test_full_disk_ends_loading_with_a_clear_error(disk: Path) -> None:
    with new_store(disk) as store, pytest.raises(StoreFullError, match="no space left on the disk"):
        store.load_tasks(Task(task_id=f"t{n}", data={"text": "x" * 1000}) for n in range(10_000))


def _error(code: int, text: str = "problem") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, StoreBusyError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusyError),
        (sqlite3.SQLITE_LOCKED, StoreBusyError),
        (sqlite3.SQLITE_FULL, StoreFullError),
        (sqlite3.SQLITE_IOERR_WRITE, StoreUnavailableError),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailableError),
        (sqlite3.SQLITE_READONLY, StoreError),
        (sqlite3.SQLITE_CORRUPT, StoreError),
        (sqlite3.SQLITE_ERROR, StoreError),
    ],
)
def test_obstacle_is_a_lock_a_full_disk_or_an_io_error_and_nothing_else(tmp_path: Path, code: int, kind: type) -> None:
    assert type(store_error(_error(code), tmp_path / "job.db")) is kind


def test_error_of_a_damaged_database_has_none_of_its_content(tmp_path: Path) -> None:
    error = store_error(_error(1, "Could not decode to UTF-8 column 'config' with text 'SECRET'"), tmp_path / "job.db")
    assert "damaged" in str(error)
    assert "SECRET" not in str(error)


# -- deleted and replaced files --------------------------------------------------------------------------------------


def test_deleted_database_is_written_again_before_the_transaction_counts(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b", "c"]) as store:
        store.apply_events([completed("a", event_id="1")])
        for file in tmp_path.glob("job.db*"):
            file.unlink()
        store.apply_events([completed("b", event_id="2")])
        assert writer_of(store.path) == os.getpid()
        with Store.open(store.path, read_only=True) as reader:
            assert reader.remaining() == 1
        store.apply_events([completed("c", event_id="3")])
    assert [path.name for path in tmp_path.iterdir()] == ["job.db"]
    with Store.open(tmp_path / "job.db") as store:
        assert store.summary().finished


def test_deleted_database_is_written_again_by_a_check(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.path.unlink()
        store.check_file()
        assert store.path.exists()


def _copies(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if ".bak-" in path.name)


def test_replaced_database_is_an_error_and_its_content_is_kept(tmp_path: Path) -> None:
    new_store(tmp_path, ["other"], "other.db").close()
    with new_store(tmp_path, ["a", "b"]) as store:
        (tmp_path / "other.db").rename(store.path)
        with pytest.raises(StoreGoneError, match=r"replaced by another file; its content was saved as .*bak-"):
            store.apply_events([completed("a")])
    (copy,) = _copies(tmp_path)
    with Store.open(copy, read_only=True) as kept, Store.open(tmp_path / "job.db", read_only=True) as other:
        assert kept.remaining() == 1
        assert other.task("other") is not None


def test_replaced_database_is_saved_once_and_every_later_transaction_raises_the_same_error(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        (tmp_path / "other").write_bytes(b"something else")
        (tmp_path / "other").rename(store.path)
        with pytest.raises(StoreGoneError) as first:
            store.apply_events([completed("a")])
        for write in (lambda: store.apply_events([completed("b")]), store.check_file, lambda: store.end_run(at(1))):
            with pytest.raises(StoreGoneError) as later:
                write()
            assert later.value is first.value
        assert store.remaining() == 1
    assert first.value.copy is not None
    assert _copies(tmp_path) == [first.value.copy]


def test_log_of_a_replaced_database_is_not_applied_to_the_other_file(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        store.apply_events([completed("a")])
        (tmp_path / "other").write_bytes(b"something else")
        (tmp_path / "other").rename(store.path)
        with pytest.raises(StoreGoneError):
            store.apply_events([completed("b")])
        with pytest.raises(StoreError, match="not a job database"):
            Store.open(store.path, read_only=True)
    assert (tmp_path / "job.db").read_bytes() == b"something else"


def test_log_of_a_deleted_database_is_not_applied_to_the_one_that_is_written_again(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(2000)]
    with new_store(tmp_path, names) as store:
        for start in range(0, 1000, 100):
            store.apply_events([completed(name, event_id=name) for name in names[start : start + 100]])
        store.path.unlink()
        store.apply_events([completed("t1500", event_id="t1500")])
    with contextlib.closing(sqlite3.connect(tmp_path / "job.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with Store.open(tmp_path / "job.db", read_only=True) as reader:
        assert reader.remaining() == 999


def test_database_whose_folder_is_gone_is_saved_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with new_store(folder, ["a", "b"]) as store:
        shutil.rmtree(folder)
        with pytest.raises(StoreGoneError, match="deleted with its folder; its content was saved as"):
            store.apply_events([completed("a")])
    (copy,) = _copies(elsewhere)
    with Store.open(copy, read_only=True) as kept:
        assert kept.remaining() == 1


def test_deleted_lock_is_taken_again(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        (tmp_path / "job.db.lock").unlink()
        assert writer_of(store.path) is None
        store.apply_events([completed("a")])
        assert writer_of(store.path) == os.getpid()
        with pytest.raises(StoreError, match="in use"):
            Store.open(store.path)
    assert writer_of(tmp_path / "job.db") is None


def test_lock_that_another_process_took_meanwhile_is_an_error(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a", "b"]) as store:
        (tmp_path / "job.db.lock").unlink()
        with Store.open(store.path) as second:
            with pytest.raises(StoreError, match="in use by another cloud-tasks process"):
                store.apply_events([completed("a")])
            assert second.summary().total == 2
            assert writer_of(second.path) == os.getpid()


def test_backup_paths_sort_by_time(tmp_path: Path) -> None:
    paths = [backup_path(tmp_path / "job.db") for _ in range(5)]
    assert paths == sorted(paths)
    assert len(set(paths)) == 5


def test_database_by_a_relative_path_in_a_deleted_current_folder_is_saved_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    monkeypatch.chdir(folder)
    with new_store(Path(), ["a"]) as store:
        shutil.rmtree(folder)
        try:
            with pytest.raises(StoreGoneError, match="deleted with its folder; its content was saved as") as gone:
                store.apply_events([completed("a")])
        finally:
            os.chdir(tmp_path)
    assert gone.value.copy is not None
    assert gone.value.copy.parent == elsewhere
    with Store.open(gone.value.copy, read_only=True) as copy:
        assert copy.summary().total == 1
