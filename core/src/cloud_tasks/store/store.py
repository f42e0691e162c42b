"""`Store`: the one source of truth about a job.

Invariants, each with a test:

1. What a method did is on disk when it returns, whole; a crash at any moment leaves the state before or after a call.
2. What is kept in memory between two writes (summary, counts, instances) is what the file says (`InstanceCache`).

How the file is opened, shared and put in its place: `JobDatabase`. Everything here is one transaction or one read, and
what it says or does is written in the module of its rows.

A task that was sent but not yet marked when the controller died is sent twice. That is harmless: both messages are the
same attempt, and events about one attempt of one task are applied once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import attrs

from cloud_tasks.errors import StoreError
from cloud_tasks.model import (
    FINAL_STATUSES,
    Event,
    Instance,
    InstanceState,
    LaunchRequest,
    Money,
    Task,
    TaskMessage,
    TaskStatus,
)
from cloud_tasks.store.db.connection import connect_reader
from cloud_tasks.store.db.job_db import JobDatabase
from cloud_tasks.store.db.times import to_unix
from cloud_tasks.store.queries.instance_cache import InstanceCache
from cloud_tasks.store.queries.summary import read_counts, read_elapsed_times, read_statistics, read_summary
from cloud_tasks.store.records import (
    Applied,
    AttemptRecord,
    InstanceRecord,
    JobRecord,
    JobState,
    JobStatistics,
    JobSummary,
)
from cloud_tasks.store.write import instances, tasks
from cloud_tasks.store.write.apply_events import apply_batch
from cloud_tasks.store.write.counters import read_counters
from cloud_tasks.store.write.dead_letters import dead_letter
from cloud_tasks.store.write.load_tasks import insert_tasks

__all__ = ["Store"]


class Store:
    """A job's database, open. A context manager; may be called from several threads. Made by `create` and `open`.

    A store that was opened read-only refuses every method that changes something.
    """

    def __init__(self, file: JobDatabase) -> None:
        self._file = file
        self._pending_from = 0
        self._job = self._read_job()
        self._roster = InstanceCache()
        self._summary: JobSummary | None = None
        self._counts: Mapping[TaskStatus, int] | None = None

    # -- opening and closing ---------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, job: JobRecord, *, overwrite: bool = False, durable: bool = True) -> Store:
        """A new, empty database.

        Args:
            durable: False for a test: commits then survive the death of this process, but not a power
                failure, and cost much less.
            overwrite: Whether a file that is there is removed first (a temporary one, left by a crash).

        Raises:
            StoreError: The file exists, another process works on it, or it cannot be written.
        """
        file = JobDatabase.create(path, overwrite=overwrite, durable=durable)
        try:
            with file.writing() as connection:
                tasks.write_job(connection, job)
            return cls(file)
        except BaseException:
            file.close()
            raise

    @classmethod
    def open(cls, path: Path, *, job_id: str | None = None, read_only: bool = False, durable: bool = True) -> Store:
        """An existing database.

        Args:
            job_id: The job that it must belong to; None: any.
            read_only: Open beside a controller that works on it.
            durable: As for `create`.

        Raises:
            StoreError: No such file, not a job database, another job's, of a newer version, or in use.
        """
        file = JobDatabase.open(path, read_only=read_only, durable=durable)
        try:
            store = cls(file)
            found = store.job.job_id
            if job_id is not None and found != job_id:
                raise StoreError(
                    f'{path}: belongs to job "{found}", not to "{job_id}"',
                    hint="check --db-file and --job-id",
                )
            return store
        except BaseException:
            file.close()
            raise

    def claim(self, path: Path) -> None:
        """Keep others from working on the database ``path``, which this one is about to replace (`publish`).

        Raises:
            StoreError: Another process works on it.
        """
        self._file.claim(path)

    def publish(self, path: Path) -> None:
        """Take the place of the database ``path``, if there is one, and go on under that name. Atomic.

        Raises:
            StoreError: Another process works on ``path``, or it cannot be written; this store is then as it was.
        """
        self._file.publish(path)

    def discard(self) -> None:
        """Close, and remove the file: for a temporary database that will not be published."""
        self._file.discard()

    def close(self) -> None:
        """Close the file and free its lock; does nothing the second time."""
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self._file.path

    @contextmanager
    def _writing(self, *, fleet: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction.

        Args:
            fleet: Whether any instance may be another afterwards.
        """
        with self._file.guard:
            with self._file.writing() as connection:
                yield connection
            self._summary = self._counts = None
            if fleet:
                self._roster.forget()

    # -- the job ---------------------------------------------------------------------------------------------------

    @property
    def job(self) -> JobRecord:
        """Which job this is, as last written."""
        with self._file.guard:
            if not self._file.writable:
                self._job = self._read_job()
            return self._job

    def _read_job(self) -> JobRecord:
        job = tasks.read_job(self._file.connection)
        if job is None:
            raise StoreError(f"{self._file.path}: holds no job", hint="its creation was cut short; remove the file")
        return job

    def set_state(self, state: JobState, now: datetime) -> None:
        """The job as a whole is running or finished since ``now``."""
        finished_at = now if state is JobState.FINISHED else None
        self.update_job(attrs.evolve(self.job, state=state, finished_at=finished_at))

    def begin_run(self, now: datetime) -> None:
        """Record that a run of the job begins now: the rate and what follows from it (`pace`) are those of this run.

        Call it after `reopen_tasks`, before the first events are applied.
        """
        with self._writing() as connection:
            tasks.begin_run(connection, to_unix(now))

    def update_job(self, job: JobRecord) -> None:
        """Write the job's record anew: a resumed run may have another configuration. The job id must stay.

        Raises:
            StoreError: The job id is another.
        """
        if job.job_id != self.job.job_id:
            raise StoreError(f'{self._file.path}: belongs to job "{self.job.job_id}", not to "{job.job_id}"')
        with self._writing() as connection:
            tasks.write_job(connection, job)
        self._job = job

    # -- tasks -----------------------------------------------------------------------------------------------------

    def load_tasks(self, source: Iterable[Task], *, start: int = 0, limit: int | None = None, where: str = "") -> int:
        """Insert tasks, checked, in one transaction; nothing remains if it raises. Returns how many.

        Args:
            start: How many to skip.
            limit: How many to take at most; nothing is read beyond them.
            where: What errors name as their place; default: the source's own ``where``, if it has one.

        Raises:
            InputError: What the source raises, duplicate ids, data that JSON cannot hold.
        """
        place = where or str(getattr(source, "where", ""))
        with self._file.filling(), self._writing() as connection:
            count = insert_tasks(connection, source, start=start, limit=limit, where=place)
            self._pending_from = 0
            return count

    def pending_tasks(self, limit: int) -> list[TaskMessage]:
        """The first tasks that are not in the queue, in the order of the input; the same until they are marked."""
        with self._file.guard:
            found, self._pending_from = tasks.read_pending(self._file.connection, self._pending_from, limit)
            return found

    def mark_queued(self, task_ids: Collection[str]) -> int:
        """These are in the queue now. Returns how many were pending; an event may have overtaken the mark."""
        with self._writing() as connection:
            return tasks.mark_queued(connection, task_ids)

    def unfinished(self) -> Iterator[TaskMessage]:
        """Every task without a final status, as the message that would run it; reads a snapshot, lazily."""
        statuses = [status for status in TaskStatus if status not in FINAL_STATUSES]
        with closing(connect_reader(self._file.path)) as connection:
            yield from tasks.iterate_messages(connection, statuses)

    def export_tasks(self, statuses: Collection[TaskStatus]) -> Iterator[Task]:
        """The tasks of these statuses as they were loaded, in the order of the input; reads a snapshot, lazily."""
        with closing(connect_reader(self._file.path)) as connection:
            for message in tasks.iterate_messages(connection, statuses):
                yield Task(task_id=message.task_id, data=message.data)

    def reset_for_requeue(self) -> int:
        """Make every task without a final status pending again: its queue is new, or empty against expectation.

        What runs is taken for lost (unless it speaks again), and is run again under the same attempt number.
        Returns how many tasks are pending then.
        """
        with self._writing(fleet=True) as connection:
            count = tasks.reset_for_requeue(connection)
            self._pending_from = 0
            return count

    def withdraw(self) -> int:
        """The task queue is about to be emptied: whatever is queued becomes pending. Returns how many tasks.

        Until `reset_for_requeue` the store remembers that also the messages of what runs may be gone (`withdrawn`).
        """
        with self._writing() as connection:
            self._pending_from = 0
            return tasks.withdraw(connection)

    def withdrawn(self) -> bool:
        """Whether the task queue was emptied, so that every unfinished task has to be sent again."""
        with self._file.guard:
            return bool(read_counters(self._file.connection).get("withdrawn"))

    def reopen_tasks(self, statuses: Collection[TaskStatus]) -> int:
        """Begin a new pass: tasks of these final statuses become pending, under an attempt number that none had before.

        Raises:
            ValueError: A status is not final, or it is ``completed``.
        """
        if not (FINAL_STATUSES - {TaskStatus.COMPLETED}).issuperset(statuses):
            raise ValueError("only tasks that ended without completing can be given a new pass")
        with self._writing() as connection:
            count = tasks.reopen(connection, statuses)
            self._pending_from = 0
            return count

    def earlier_attempts(self) -> int:
        """The highest attempt number of earlier passes: the attempts of this one are counted from there."""
        with self._file.guard:
            return int(read_counters(self._file.connection).get("earlier_attempts", 0))

    def task(self, task_id: str) -> tuple[Task, TaskStatus] | None:
        """One task and where it stands; None where the job has no such task."""
        with self._file.guard:
            return tasks.read_task(self._file.connection, task_id)

    def attempts(self, task_id: str) -> tuple[AttemptRecord, ...]:
        """The history of one task, oldest first; empty for a task that never ran, or that is unknown."""
        with self._file.guard:
            return tasks.read_attempts(self._file.connection, task_id)

    # -- events ----------------------------------------------------------------------------------------------------

    def apply_events(self, events: Sequence[Event]) -> Applied:
        """Apply a batch in one transaction; when this returns, it is on disk and may be acked.

        Applying an event again changes nothing. Events may come in any order; none is refused.
        """
        if not events:
            return Applied()
        with self._writing() as connection:
            applied = apply_batch(connection, events)
        self._roster.heard(event.instance_id for event in events if event.instance_id)
        return applied

    def set_aside(self, body: bytes, reason: str, now: datetime) -> None:
        """Keep a message that could not be read, and count it; the latest thousand are kept, 4 KiB of each."""
        with self._writing() as connection:
            dead_letter(connection, body, reason, now)

    # -- figures ---------------------------------------------------------------------------------------------------

    def summary(self) -> JobSummary:
        """Where the job stands; no scan, whatever its size."""
        with self._file.guard:
            # Nobody else writes: what was read last holds until this store writes.
            if self._summary is not None and self._file.writable:
                return self._summary
            with self._file.reading() as connection:
                self._summary = read_summary(connection, self.job)
            return self._summary

    def counts(self) -> Mapping[TaskStatus, int]:
        """How many tasks are in each status, zero included: the cheapest part of the summary."""
        with self._file.guard:
            if self._counts is None or not self._file.writable:
                self._counts = read_counts(self._file.connection)
            return self._counts

    def remaining(self) -> int:
        """Tasks without a final status."""
        return sum(count for status, count in self.counts().items() if status not in FINAL_STATUSES)

    def statistics(self, now: datetime | None = None) -> JobStatistics:
        """The figures of the final report, exact; scans the tasks.

        Args:
            now: Until when instances that live are paid for; None: now.
        """
        with self._file.reading() as connection:
            return read_statistics(connection, self.job, now or datetime.now(UTC))

    def elapsed_times(self) -> Mapping[float, int]:
        """Return durations in seconds, each within 1 %, to numbers of completed tasks; `simulate` draws from them."""
        with self._file.guard:
            return read_elapsed_times(self._file.connection)

    # -- instances -------------------------------------------------------------------------------------------------

    def record_intents(self, requests: Iterable[LaunchRequest], now: datetime, *, slots: int = 0) -> None:
        """Instances are about to be launched, all in one transaction; before the first launch, so that none is ever
        unaccounted for.

        Args:
            slots: Of each.
        """
        requests = tuple(requests)
        with self._writing() as connection:
            for request in requests:
                instances.write_intent(connection, request, now, slots)
        self._roster.changed(request.client_token for request in requests)

    def record_launched(self, client_token: str, instance: Instance) -> None:
        """The launch took place."""
        with self._writing() as connection:
            instances.mark_launched(connection, client_token, instance)
        self._roster.changed((client_token,))

    def record_launch_failed(self, client_token: str, reason: str) -> None:
        """The launch did not take place; ignored where it did."""
        with self._writing() as connection:
            instances.mark_launch_failed(connection, client_token, reason)
        self._roster.changed((client_token,))

    def record_states(self, listing: Iterable[Instance]) -> None:
        """Record the states that a listing shows, in one transaction; no transaction where none changed.

        Unknown and ended instances stay as they are, and a listed end is left to `record_ended`.
        """
        with self._file.guard:
            living = {r.instance_id: r for r in self.instances() if r.instance_id is not None and r.ended_at is None}
            states = {
                instance.instance_id: instance.state
                for instance in listing
                if instance.instance_id in living
                and instance.state not in (living[instance.instance_id].state, InstanceState.TERMINATED)
            }
            if states:
                with self._writing() as connection:
                    instances.mark_states(connection, states)
                self._roster.changed(living[instance_id].client_token for instance_id in states)

    def record_ended(self, instance_id: str, when: datetime, reason: str) -> int:
        """Record in one transaction that an instance ended, and that the attempts on it were interrupted.

        Their tasks are queued again; their messages return by themselves when their leases end. The first recorded end
        is kept.

        Returns:
            Number of tasks queued again.
        """
        with self._writing() as connection:
            instances.mark_ended(connection, instance_id, when, reason)
            interrupted = tasks.lose_instance(connection, instance_id)
        self._roster.instance_changed(instance_id)
        return interrupted

    def instances(self) -> Sequence[InstanceRecord]:
        """Every launch of this job, failed and ended ones included, the oldest first."""
        with self._file.guard:
            if not self._file.writable:
                self._roster.forget()
            return self._roster.read(self._file.connection)

    def spending(self, now: datetime) -> Money:
        """What the instances have cost until ``now``: uptime times price, exactly; unanswered launches included."""
        with self._file.guard:
            if not self._file.writable:
                self._roster.forget()
            return self._roster.spent(self._file.connection, now)
