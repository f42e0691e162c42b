"""Creating, opening, locking, publishing and migrating a job database."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from store_facts import JOB, at, completed, instance, launch_request, new_store

from cloud_tasks.errors import StoreError
from cloud_tasks.model import InstanceState, Task, TaskStatus
from cloud_tasks.store import JobState, Store
from cloud_tasks.store.db.schema import SCHEMA_VERSION
from cloud_tasks.store.db.writer_lock import WriterLock


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_close_leaves_one_file(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"]).close()
    assert names(tmp_path) == ["job.db"]


def test_open_returns_what_was_written(tmp_path: Path) -> None:
    new_store(tmp_path, ["a", "b"]).close()
    with Store.open(tmp_path / "job.db", job_id="job") as store:
        assert store.job == JOB
        assert store.summary().total == 2
        store.set_state(JobState.FINISHED, at(60))
    with Store.open(tmp_path / "job.db") as store:
        assert (store.job.state, store.job.finished_at) == (JobState.FINISHED, at(60))


def test_create_refuses_an_existing_file_without_overwrite(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"]).close()
    with pytest.raises(StoreError, match="already exists"):
        Store.create(tmp_path / "job.db", JOB)
    with Store.create(tmp_path / "job.db", JOB, overwrite=True) as store:
        assert store.summary().total == 0


def test_open_refuses_a_second_writer_and_allows_readers(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        with pytest.raises(StoreError, match=rf"in use by another cloud-tasks process \(PID {os.getpid()}\)"):
            Store.open(tmp_path / "job.db")
        with Store.open(tmp_path / "job.db", read_only=True) as reader:
            assert reader.summary().remaining == 1
            store.apply_events([completed("a")])
            assert reader.summary().remaining == 0
            assert reader.job.job_id == "job"
    Store.open(tmp_path / "job.db").close()


def test_writer_lock_release_may_be_repeated_after_an_interrupt(tmp_path: Path, monkeypatch) -> None:
    lock = WriterLock(tmp_path / "job.db")
    close = os.close

    def interrupted(fd: int) -> None:
        close(fd)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.release()
    monkeypatch.undo()
    lock.release()
    WriterLock(tmp_path / "job.db").release()


def test_writer_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"]).close()
    program = (
        "import sys, time; from pathlib import Path; from cloud_tasks.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); print('open', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, tmp_path / "job.db"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(StoreError, match=f"PID {holder.pid}"):
            Store.open(tmp_path / "job.db")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with Store.open(tmp_path / "job.db") as store:
        assert store.summary().total == 1


def test_read_only_store_refuses_writes(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"]).close()
    with Store.open(tmp_path / "job.db", read_only=True) as store:
        for change in (
            lambda: store.apply_events([completed("a")]),
            lambda: store.mark_queued(["a"]),
            store.reset_for_requeue,
            lambda: store.load_tasks([Task(task_id="b")]),
        ):
            with pytest.raises(StoreError, match="read-only"):
                change()
        assert store.summary().counts[TaskStatus.PENDING] == 1


def _not_sqlite(path: Path) -> None:
    path.write_text("task_id,status\n" * 100)


def _other_sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()


def _newer(path: Path) -> None:
    new_store(path.parent, name=path.name).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()


def _unversioned(path: Path) -> None:
    new_store(path.parent, name=path.name).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 0")
    connection.close()


def _cut_off(path: Path) -> None:
    new_store(path.parent, name=path.name).close()
    os.truncate(path, path.stat().st_size - 100)


def _others(path: Path) -> None:
    Store.create(path, attrs.evolve(JOB, job_id="other")).close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, " not found; check --db-file"),
        (_not_sqlite, "not a job database"),
        (_other_sqlite, "not a job database of cloud-tasks"),
        (_newer, "created by a newer version of cloud-tasks"),
        (_unversioned, "the job database is damaged (schema 0)"),
        (_cut_off, "the job database is damaged: the file is cut off"),
        (_others, 'belongs to job "other", not "job"'),
        (lambda path: path.mkdir(), "cannot open"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_open_refuses_other_files_with_a_hint(tmp_path: Path, make: object, message: str, read_only: bool) -> None:
    assert callable(make)
    make(tmp_path / "job.db")
    before = names(tmp_path)
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "job.db", job_id="job", read_only=read_only)
    assert message in str(caught.value)
    assert caught.value.hint
    assert names(tmp_path) == before


def test_create_refuses_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere not found; create it first"):
        Store.create(tmp_path / "nowhere" / "job.db", JOB)


def test_update_job_refuses_another_job_id(tmp_path: Path) -> None:
    with new_store(tmp_path) as store:
        store.update_job(attrs.evolve(JOB, config={"changed": True}, state=JobState.RUNNING))
        assert store.job.config == {"changed": True}
        with pytest.raises(StoreError, match='belongs to job "job"'):
            store.update_job(attrs.evolve(JOB, job_id="other"))


# -- publishing ----------------------------------------------------------------------------------------------------


def test_publish_replaces_the_old_database(tmp_path: Path) -> None:
    new_store(tmp_path, ["old"]).close()
    with new_store(tmp_path, ["new", "newer"], "job.db.loading") as store:
        with Store.open(tmp_path / "job.db", read_only=True) as earlier:
            assert earlier.summary().total == 1
        kept = store.publish(tmp_path / "job.db")
        assert store.path == tmp_path / "job.db"
        assert store.apply_events([completed("new")]).new == 1
        assert "job.db.loading" not in "".join(names(tmp_path))
    assert kept is not None
    assert names(tmp_path) == ["job.db", kept.name]
    with Store.open(kept, read_only=True) as old:
        assert old.task("old") is not None
    with Store.open(tmp_path / "job.db") as store:
        assert store.summary().finished_tasks == 1


def test_publish_refuses_a_database_in_use(tmp_path: Path) -> None:
    with new_store(tmp_path, ["old"]), new_store(tmp_path, ["new"], "job.db.loading") as store:
        with pytest.raises(StoreError, match="in use"):
            store.publish(tmp_path / "job.db")
        assert store.path == tmp_path / "job.db.loading"
        assert store.apply_events([completed("new")]).new == 1
    with Store.open(tmp_path / "job.db") as old:
        assert old.task("old") is not None


def test_failed_publish_leaves_the_store_unchanged(tmp_path: Path) -> None:
    (tmp_path / "job.db").mkdir()
    with new_store(tmp_path, ["new"], "job.db.loading") as store:
        with pytest.raises(StoreError, match="cannot replace the file"):
            store.publish(tmp_path / "job.db")
        assert store.apply_events([completed("new")]).new == 1
    assert names(tmp_path) == ["job.db", "job.db.loading"]


def test_open_refuses_a_database_without_a_job(tmp_path: Path) -> None:
    new_store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "job.db")
    connection.execute("DELETE FROM job")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="contains no job"):
        Store.open(tmp_path / "job.db")
    assert names(tmp_path) == ["job.db"]


def test_publish_removes_the_old_write_ahead_log(tmp_path: Path) -> None:
    # A killed controller leaves its write-ahead log.
    program = (
        "import os, sys; from pathlib import Path; from cloud_tasks.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); store.mark_queued(['old']); os.kill(os.getpid(), 9)"
    )
    new_store(tmp_path, ["old"]).close()
    subprocess.run([sys.executable, "-c", program, tmp_path / "job.db"], check=False)
    assert (tmp_path / "job.db-wal").stat().st_size > 0
    with new_store(tmp_path, ["new"], "job.db.loading") as store:
        kept = store.publish(tmp_path / "job.db")
    with Store.open(tmp_path / "job.db") as store:
        assert store.task("new") is not None
        assert store.task("old") is None
    assert kept is not None
    with Store.open(kept, read_only=True) as old:
        assert old.counts()[TaskStatus.QUEUED] == 1


def test_publish_leaves_readers_of_the_old_database_working(tmp_path: Path) -> None:
    new_store(tmp_path, ["old"]).close()
    with (
        Store.open(tmp_path / "job.db", read_only=True) as reader,
        new_store(tmp_path, ["new"], "job.db.loading") as store,
    ):
        assert reader.task("old") is not None
        store.publish(tmp_path / "job.db")
        assert reader.task("old") is not None


def test_discard_deletes_the_file(tmp_path: Path) -> None:
    new_store(tmp_path, ["a"]).discard()
    assert names(tmp_path) == []


def _as_version_2(path: Path) -> None:
    """Convert a database to schema 2, in which instances had a column ``last_seen``."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "ALTER TABLE instances ADD COLUMN last_seen REAL; ALTER TABLE instances DROP COLUMN rebate; "
            "ALTER TABLE instances DROP COLUMN deadline; "
            "ALTER TABLE job DROP COLUMN place; ALTER TABLE job DROP COLUMN event_queue_name; "
            "ALTER TABLE job DROP COLUMN former_queues; DROP TABLE consoles; PRAGMA user_version = 2;"
        )


def test_open_migrates_a_database_of_schema_2_and_keeps_its_instances(tmp_path: Path) -> None:
    path = tmp_path / "job.db"
    with new_store(tmp_path, ["a"]) as store:
        for number in (2, 1, 3):
            store.record_intents([launch_request(f"t{number}", price="1")], at(5))
            store.record_launched(f"t{number}", instance(f"i{number}", f"t{number}", created=5))
        store.record_ended("i3", at(3605), "preempted")
        before, spent = store.instances(), store.spending(at(7205))
    _as_version_2(path)
    with Store.open(path, read_only=True) as reader:
        assert reader.instances() == before
        assert reader.spending(at(7205)) == spent
    with Store.open(path) as store:
        assert store.instances() == before
        assert store.spending(at(7205)) == spent
        store.record_states([instance("i1", "t1", state=InstanceState.STOPPING)])
        store.record_intents([launch_request("t4")], at(10))
        assert store.instances()[1].state is InstanceState.STOPPING
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(instances)")]
        indices = {row[1] for row in connection.execute("PRAGMA index_list(instances)")}
    assert "last_seen" not in columns
    assert "instances_alive" in indices


def test_claim_locks_the_other_database(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"], name="loading.db") as store:
        store.claim(tmp_path / "job.db")
        with pytest.raises(StoreError):
            new_store(tmp_path, ["a"])
        store.publish(tmp_path / "job.db")
        assert store.remaining() == 1
