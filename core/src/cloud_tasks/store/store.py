"""`Store`: the single source of truth about a job.

Invariants, each with a test:

1. A method's changes are on disk when it returns, and atomic: a crash leaves the state before or after the call.
2. Values cached between two writes (summary, counts, instances) equal the content of the file (`InstanceCache`).

Each method is one transaction or one read; the SQL is in the module of the rows (`write`, `queries`). Opening, locking
and publishing the file: `JobDatabase`.

A task that was sent but not marked as queued before the controller crashed is sent twice. Both messages are the same
attempt, and the events of an attempt are applied once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
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
from cloud_tasks.store.db.damage import check_content
from cloud_tasks.store.db.job_db import JobDatabase
from cloud_tasks.store.db.obstacles import damage_error
from cloud_tasks.store.db.reading import open_reader
from cloud_tasks.store.db.times import to_unix
from cloud_tasks.store.listed import observed
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
from cloud_tasks.store.write.counters import read_counter, recount
from cloud_tasks.store.write.dead_letters import dead_letter
from cloud_tasks.store.write.load_tasks import insert_tasks

__all__ = ["Store"]


class Store:
    """An open job database, from `create` or `open`. A context manager; thread-safe.

    A method that writes raises `StoreError` if the store is read-only.
    """

    def __init__(self, file: JobDatabase) -> None:
        self._file = file
        self._pending_from = 0
        self._job = self._read_job()
        self._instances = InstanceCache()
        self._summary: JobSummary | None = None
        self._counts: Mapping[TaskStatus, int] | None = None
        file.complete = self._complete

    # -- opening and closing ---------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, job: JobRecord, *, overwrite: bool = False, durable: bool = True) -> Store:
        """Create an empty database.

        Args:
            overwrite: Delete an existing file first (a temporary one, left by a crash).
            durable: Sync each commit to disk, so that it survives a power failure. Without it (tests), commits survive
                the end of this process and are much faster.

        Raises:
            StoreError: The file exists, is in use, or cannot be written.
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
        """Open an existing database.

        Args:
            job_id: The job that it must belong to; None for any.
            read_only: Open without the writer lock, also while a controller writes.
            durable: See `create`.

        Raises:
            StoreError: No such file, not a job database, another job, a newer version, or in use.
        """
        file = JobDatabase.open(path, read_only=read_only, durable=durable)
        try:
            store = cls(file)
            found = store.job.job_id
            if job_id is not None and found != job_id:
                raise StoreError(
                    f'{path}: belongs to job "{found}", not "{job_id}"',
                    hint="check --db-file and --job-id",
                )
            return store
        except BaseException:
            file.close()
            raise

    def claim(self, path: Path) -> None:
        """Lock the database ``path``, which this one is going to replace (`publish`).

        Raises:
            StoreError: It is in use by another process.
        """
        self._file.claim(path)

    def publish(self, path: Path) -> Path | None:
        """Rename the database to ``path``, atomically; an existing one is kept under the name that is returned.

        Raises:
            StoreError: ``path`` is in use by another process or cannot be written; this store is unchanged.
        """
        return self._file.publish(path)

    def _complete(self, copy: sqlite3.Connection) -> None:
        if tasks.read_job(copy) is None:
            tasks.write_job(copy, self._job)
        recount(copy)

    def check_file(self) -> None:
        """Check that the path still names this database, undamaged: a deleted file is written again.

        Raises:
            StoreGoneError: The file was replaced or damaged, or its folder is gone.
        """
        self._file.check_file()

    def check_content(self) -> None:
        """Check what decides what is shown of the job. Raises `StoreError` if the database is damaged."""
        with self._file.reading() as connection:
            check_content(connection, self.path)

    def check_writable(self) -> None:
        """Write the job's record again. Raises `StoreUnavailableError` while nothing can be written."""
        self.update_job(self.job)

    def discard(self) -> None:
        """Close and delete a temporary database that will not be published."""
        self._file.discard()

    def close(self) -> None:
        """Close the file and release its lock; idempotent."""
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The database file."""
        return self._file.path

    @contextmanager
    def _writing(self, *, fleet: bool = False) -> Iterator[sqlite3.Connection]:
        """Run one transaction.

        Args:
            fleet: Whether it may change any instance.
        """
        with self._file.guard:
            try:
                with self._file.writing() as connection:
                    yield connection
            finally:
                # Also after an error: it may have followed the commit.
                self._summary = self._counts = None
                if fleet:
                    self._instances.invalidate()

    # -- the job ---------------------------------------------------------------------------------------------------

    @property
    def job(self) -> JobRecord:
        """The job's record, as last written."""
        with self._file.guard:
            if not self._file.writable:
                self._job = self._read_job()
            return self._job

    def _read_job(self) -> JobRecord:
        with self._file.querying() as connection:
            job = tasks.read_job(connection)
            has_tasks = job is None and connection.execute("SELECT 1 FROM tasks LIMIT 1").fetchone() is not None
        if has_tasks:
            raise damage_error(self._file.path, "the record of the job is missing")
        if job is None:
            raise StoreError(f"{self._file.path}: contains no job: creation was interrupted", hint="delete the file")
        return job

    def set_state(self, state: JobState, now: datetime) -> None:
        """Set the state of the whole job; ``now`` becomes its end if it is finished."""
        finished_at = now if state is JobState.FINISHED else None
        self.update_job(attrs.evolve(self.job, state=state, finished_at=finished_at))

    def begin_run(self, now: datetime) -> None:
        """Record that a run starts now; `throughput` counts from here.

        Call it after `reopen_tasks` and before the first `apply_events`.
        """
        with self._writing() as connection:
            tasks.begin_run(connection, to_unix(now))

    def record_alive(self, now: datetime) -> None:
        """Record that a controller is at work: after a crash, the time until which one was."""
        with self._writing() as connection:
            tasks.record_alive(connection, to_unix(now))

    def end_run(self, now: datetime) -> None:
        """Record that the run ended in order, whatever its result."""
        with self._writing() as connection:
            tasks.record_alive(connection, to_unix(now), is_end=True)

    def clock(self, boot: str) -> tuple[float | None, float | None]:
        """Return the offset of the job's clock on this boot of the machine, and when a controller was last at work."""
        with self._file.querying() as connection:
            return tasks.read_clock(connection, boot)

    def record_clock(self, boot: str, offset: float, now: datetime) -> None:
        """Record the offset of the job's clock (`JobClock`) on this boot of the machine; it shows ``now``."""
        with self._writing() as connection:
            tasks.write_clock(connection, boot, offset, to_unix(now))

    def update_job(self, job: JobRecord) -> None:
        """Overwrite the job's record: a resumed run may have another configuration.

        Raises:
            StoreError: The job id differs.
        """
        if job.job_id != self.job.job_id:
            raise StoreError(f'{self._file.path}: belongs to job "{self.job.job_id}", not "{job.job_id}"')
        with self._writing() as connection:
            tasks.write_job(connection, job)
        self._job = job

    def known_runs(self) -> frozenset[str]:
        """Return the ids of this run, and of the runs whose database this one replaced."""
        with self._file.querying() as connection:
            return tasks.read_earlier_runs(connection) | {self.job.run_id}

    def note_earlier_runs(self, run_ids: Iterable[str]) -> None:
        """Record the runs whose database this one replaces: instances of theirs may appear later."""
        with self._writing() as connection:
            tasks.write_earlier_runs(connection, run_ids)

    # -- tasks -----------------------------------------------------------------------------------------------------

    def load_tasks(self, source: Iterable[Task], *, start: int = 0, limit: int | None = None, where: str = "") -> int:
        """Validate and insert tasks in one transaction; return how many.

        Args:
            start: Number of tasks to skip.
            limit: Maximum number of tasks to insert; the source is not read further.
            where: Location shown in errors (default: the source's ``where``, if it has one).

        Raises:
            InputError: An error of the source, a duplicate id, or data that JSON cannot represent.
        """
        place = where or str(getattr(source, "where", ""))
        with self._file.filling(), self._writing() as connection:
            count = insert_tasks(connection, source, start=start, limit=limit, where=place)
            self._pending_from = 0
            return count

    def pending_tasks(self, limit: int) -> list[TaskMessage]:
        """Return up to ``limit`` pending tasks in input order; the same ones until `mark_queued`."""
        with self._file.querying() as connection:
            found, self._pending_from = tasks.read_pending(connection, self._pending_from, limit)
            return found

    def mark_queued(self, task_ids: Collection[str]) -> int:
        """Change pending tasks to queued; return how many. A task with events already keeps its status."""
        with self._writing() as connection:
            return tasks.mark_queued(connection, task_ids)

    def unfinished(self) -> Iterator[TaskMessage]:
        """Yield every unfinished task as the message that would run it, from one snapshot."""
        statuses = [status for status in TaskStatus if status not in FINAL_STATUSES]
        with open_reader(self._file.path) as connection:
            yield from tasks.iterate_messages(connection, statuses)

    def export_tasks(self, statuses: Collection[TaskStatus]) -> Iterator[Task]:
        """Yield the tasks of these statuses as they were loaded, in input order, from one snapshot."""
        with open_reader(self._file.path) as connection:
            for message in tasks.iterate_messages(connection, statuses):
                yield Task(task_id=message.task_id, data=message.data)

    def reset_for_requeue(self) -> int:
        """Change every unfinished task to pending, because its queue is new or its messages are missing.

        Running attempts count as interrupted until an event of theirs arrives; they run again under the same attempt
        number. Return the number of pending tasks.
        """
        with self._writing(fleet=True) as connection:
            count = tasks.reset_for_requeue(connection)
            self._pending_from = 0
            return count

    def withdraw(self) -> int:
        """Change every queued task to pending, before the task queue is purged; return how many.

        `withdrawn` is true until `reset_for_requeue`: the purge may delete the messages of running tasks too.
        """
        with self._writing() as connection:
            self._pending_from = 0
            return tasks.withdraw(connection)

    def withdrawn(self) -> bool:
        """Return whether the task queue was purged, so that every unfinished task has to be sent again."""
        with self._file.querying() as connection:
            return bool(read_counter(connection, "withdrawn"))

    def reopen_tasks(self, statuses: Collection[TaskStatus]) -> int:
        """Change tasks of these terminal states to pending, for a new pass; return how many.

        Their attempt number becomes one that none of them had before.

        Raises:
            ValueError: A status is not terminal, or is ``completed``.
        """
        if not (FINAL_STATUSES - {TaskStatus.COMPLETED}).issuperset(statuses):
            raise ValueError("only failed, timed-out, exited and dead tasks can be reopened")
        with self._writing() as connection:
            count = tasks.reopen(connection, statuses)
            self._pending_from = 0
            return count

    def reopen_failed(self, instance_id: str) -> int:
        """Change tasks that failed in this run on this instance, and on no other, to pending; return how many.

        Their next attempt has the next number.
        """
        with self._writing() as connection:
            count = tasks.reopen_failed(connection, instance_id)
            self._pending_from = 0
            return count

    def earlier_attempts(self) -> int:
        """Return the highest attempt number of earlier passes; the attempt limit of this pass counts from there."""
        with self._file.querying() as connection:
            return int(read_counter(connection, "earlier_attempts"))

    def task(self, task_id: str) -> tuple[Task, TaskStatus] | None:
        """Return a task and its status; None if the job has no such task."""
        with self._file.querying() as connection:
            return tasks.read_task(connection, task_id)

    def attempts(self, task_id: str) -> tuple[AttemptRecord, ...]:
        """Return the attempts of a task, the oldest first; empty for an unknown task or one that never ran."""
        with self._file.querying() as connection:
            return tasks.read_attempts(connection, task_id)

    # -- events ----------------------------------------------------------------------------------------------------

    def apply_events(self, events: Sequence[Event]) -> Applied:
        """Apply a batch of events in one transaction; when this returns, their messages may be acked.

        Applying an event twice changes nothing. Events may arrive in any order. Any `Event` is applied, or
        dead-lettered if its type, task or attempt cannot be used.
        """
        if not events:
            return Applied()
        with self._writing() as connection:
            applied = apply_batch(connection, events, datetime.now(UTC))
        self._instances.events_applied(event.instance_id for event in events if event.instance_id)
        return applied

    def dead_letter(self, messages: Sequence[tuple[object, str]], now: datetime) -> None:
        """Keep and count messages that cannot be used, each with the reason; the latest 1,000, up to 4 KiB of each."""
        with self._writing() as connection:
            for body, reason in messages:
                dead_letter(connection, body, reason, now)

    # -- summary and statistics ------------------------------------------------------------------------------------

    def summary(self) -> JobSummary:
        """Return the job's status from maintained counters, in constant time."""
        with self._file.guard:
            # This process is the only writer, so the cached summary is valid until its next write.
            if self._summary is not None and self._file.writable:
                return self._summary
            with self._file.reading() as connection:
                self._summary = read_summary(connection, self.job)
            return self._summary

    def counts(self) -> Mapping[TaskStatus, int]:
        """Return the number of tasks by status, zero included: the cheapest part of the summary."""
        with self._file.querying() as connection:
            if self._counts is None or not self._file.writable:
                self._counts = read_counts(connection)
            return self._counts

    def remaining(self) -> int:
        """Return the number of unfinished tasks."""
        return sum(count for status, count in self.counts().items() if status not in FINAL_STATUSES)

    def statistics(self, now: datetime | None = None, *, with_failures: bool = True) -> JobStatistics:
        """Return the exact statistics of the final report; scans the tasks.

        Args:
            now: End of the cost of running instances, UTC; None for the current time.
            with_failures: Whether to group the unsuccessful attempts, too; scans the attempts.
        """
        moment = now or datetime.now(UTC)
        with self._file.reading() as connection:
            return read_statistics(connection, self.job, moment, with_failures=with_failures)

    def elapsed_times(self) -> Mapping[float, int]:
        """Return numbers of completed tasks by elapsed time in seconds (within 1%), from the quantile sketch."""
        with self._file.querying() as connection:
            return read_elapsed_times(connection)

    # -- instances -------------------------------------------------------------------------------------------------

    def record_intents(
        self, requests: Iterable[LaunchRequest], now: datetime, *, slots: int = 0, own_end: timedelta | None = None
    ) -> None:
        """Record launches before they are requested, in one transaction, so that no instance is unaccounted for.

        Args:
            slots: Task slots of each instance.
            own_end: Time after its deadline by which each has certainly ended itself; None: unknown.
        """
        requests = tuple(requests)
        with self._writing() as connection:
            for request in requests:
                instances.write_intent(connection, request, now, slots, own_end)
        self._instances.launches_changed(request.client_token for request in requests)

    def renew_intents(self, client_tokens: Collection[str], now: datetime) -> None:
        """Record that launches are still to be called: their lifetimes and costs count from now."""
        with self._writing() as connection:
            instances.renew_intents(connection, client_tokens, now)
        self._instances.launches_changed(client_tokens)

    def record_launched(
        self,
        client_token: str,
        instance: Instance,
        requested_at: datetime | None = None,
        answered_at: datetime | None = None,
    ) -> None:
        """Record that a launch succeeded.

        Args:
            requested_at: When the provider was called, from which its cost counts; None: the time of the intent.
            answered_at: When the instance was known to exist: its lifetime began by then; None: at its intent.
        """
        with self._writing() as connection:
            instances.mark_launched(connection, client_token, instance, requested_at, answered_at)
        self._instances.launches_changed((client_token,))

    def record_launch_failed(self, client_token: str, reason: str, *, unlisted_at: datetime | None = None) -> None:
        """Record that a launch failed; ignored if it is known to have succeeded.

        Args:
            unlisted_at: Time of the listing that refutes a launch of unknown outcome; long after the launch, its
                instance may have existed, and is booked.
        """
        with self._writing() as connection:
            instances.mark_launch_failed(connection, client_token, reason, unlisted_at=unlisted_at)
        self._instances.launches_changed((client_token,))

    def record_console(self, instance_id: str, log: str) -> None:
        """Record the last output of an instance; the first record is kept."""
        with self._writing() as connection:
            instances.write_console(connection, instance_id, log)

    def console(self, instance_id: str) -> str | None:
        """Return the last output of an instance; None if it was not recorded."""
        with self._file.querying() as connection:
            return instances.console_of(connection, instance_id)

    def raise_prices(self, prices: Mapping[str, Money], now: datetime) -> None:
        """Book running instances at a higher price from ``now`` (UTC) on, in one transaction.

        Args:
            prices: Current price per hour by client token; a price that is not higher changes nothing.
        """
        with self._writing() as connection:
            instances.raise_prices(connection, prices, now)
        self._instances.launches_changed(prices)

    def record_states(self, listing: Iterable[Instance], requested_at: datetime | None = None) -> None:
        """Record the states in a listing, and the starts that it shows, in one transaction; nothing if none changed.

        Unknown and terminated instances are ignored; a listed termination is left to `record_ended`.

        Args:
            requested_at: Time of the listing: an instance that it shows after its own end is booked until its end is
                seen. None: unknown.
        """
        with self._file.guard:
            living = {r.instance_id: r for r in self.instances() if r.instance_id is not None and r.ended_at is None}
            changed = []
            for instance in listing:
                record = living.get(instance.instance_id)
                if record is None:
                    continue
                found = observed(record, instance, requested_at)
                if _outlives_own_end(found, instance, requested_at):
                    found = attrs.evolve(found, ends_by=None)
                if found is not record:
                    changed.append(found)
            if changed:
                with self._writing() as connection:
                    instances.mark_listed(connection, changed)
                self._instances.launches_changed(record.client_token for record in changed)

    def record_ended(
        self,
        instance_id: str,
        when: datetime,
        reason: str,
        *,
        ended_at: datetime | None = None,
        is_canceled: bool = False,
    ) -> int:
        """Record in one transaction that an instance ended, and that the attempts on it were interrupted.

        Their tasks are queued again; their messages return by themselves when their leases end. The first recorded end
        is kept.

        Args:
            when: Time of the listing that showed it.
            ended_at: Its end as the provider names it, by the clock of the job; None: unknown.
            is_canceled: Whether this job terminated it: a pending one then never started.

        Returns:
            Number of tasks queued again.
        """
        with self._writing() as connection:
            instances.mark_ended(connection, instance_id, when, reason, ended_at=ended_at, is_canceled=is_canceled)
            interrupted = tasks.lose_instance(connection, instance_id)
        self._instances.instance_changed(instance_id)
        self._instances.events_applied((instance_id,))
        return interrupted

    def instances(self) -> Sequence[InstanceRecord]:
        """Return every launch of this job, including failed and terminated ones, the oldest first."""
        with self._file.querying() as connection:
            if not self._file.writable:
                self._instances.invalidate()
            return self._instances.read(connection)

    def spending(self, now: datetime) -> Money:
        """Return the exact cost of all instances until ``now`` (UTC): booked time times price (`booking`).

        Launches without an answer are included.
        """
        with self._file.querying() as connection:
            if not self._file.writable:
                self._instances.invalidate()
            return self._instances.spending(connection, now)


def _outlives_own_end(record: InstanceRecord, instance: Instance, requested_at: datetime | None) -> bool:
    if record.ends_by is None or requested_at is None or instance.state is InstanceState.TERMINATED:
        return False
    return not record.is_pending and requested_at > record.ends_by
