"""The setup of a job: its input checked and loaded into a database, its queues created or resumed.

Invariants, each with a test:

1. The whole input is validated before anything is deleted or created.
2. ``run`` and ``load-queue`` set up a job by the same steps (`cloud_tasks.controller.setup.resources`).
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import structlog

import cloud_tasks
from cloud_tasks.builtin import check_length, location_of_source, open_task_source
from cloud_tasks.command_template import CheckedTasks
from cloud_tasks.config import JobConfig
from cloud_tasks.controller.deferred_writes import wait_for_store
from cloud_tasks.controller.failed_run import read_known_runs
from cloud_tasks.controller.launch.labels import belongs_to_other_run, describe_owner, owner_label
from cloud_tasks.controller.launch.terminate import remaining_instances
from cloud_tasks.controller.setup.open_backends import open_compute, open_named_queue, open_queue
from cloud_tasks.controller.setup.place import check_recorded_place, has_queues_elsewhere, place_of
from cloud_tasks.controller.setup.queue_names import base_name, delete_former_queues, first_queue_name
from cloud_tasks.controller.setup.resources import create_resources, resume_resources
from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError, StoreError
from cloud_tasks.escape import without_credentials
from cloud_tasks.model import Instance, Task
from cloud_tasks.plugin import Compute, OwnedQueue, Queue
from cloud_tasks.registry import Registry
from cloud_tasks.sanitize import clean_text
from cloud_tasks.store import JobRecord, Store, iterate_tasks, writer_of

__all__ = ["JobInput", "JobResources", "JobSetup", "recorded_job", "records_instances"]

log = structlog.get_logger()

_SCRATCH = ".cloud-tasks-load-"
"""Start of the names of folders in which databases are loaded."""
_SOURCE = "task_source"
"""Key of the location of the task source among the values of a recorded place, which no command compares."""
_LEFTOVER_AGE = 60.0
"""Seconds after which a folder whose database is not locked belongs to a load that was killed."""


@attrs.frozen(kw_only=True)
class JobInput:
    """The tasks of a job, and its database."""

    db_file: Path
    task_file: str | None = None
    """A path, a URL, ``module:function`` or ``source:location``; None: the configuration's ``task_source``."""
    start_task: int = 0
    """Number of tasks to skip at the beginning."""
    limit: int | None = None
    """Maximum number of tasks to load."""
    allow_empty: bool = False
    """Whether a source without tasks is accepted."""


@attrs.frozen(kw_only=True)
class JobResources:
    """The database and the queues of a job, ready for tasks to be sent; closed with the setup."""

    store: Store
    tasks: Queue
    events: Queue


class JobSetup:
    """The steps before a job's tasks are sent; a context manager that closes what they opened.

    A new job: `load`, `obstacles`, then `create`. An existing job: `resume`.

    Args:
        starts_instances: Whether instances may exist that no database records; False for tasks that are only queued.
        resume: Whether the job in the database is resumed.
    """

    def __init__(
        self, registry: Registry, config: JobConfig, given: JobInput, *, starts_instances: bool, resume: bool = False
    ) -> None:
        if not config.run.job_id:
            raise InputError("no job given", hint="add --job-id or --config")
        self.job_id: str = config.run.job_id
        self._run_id = secrets.token_hex(8)
        recorded = recorded_job(given.db_file, self.job_id) if resume else None
        first = first_queue_name(config.run.queue_name or self.job_id, self._run_id)
        self.queue_name: str = first if recorded is None else recorded.queue_name
        """Full name of the task queue; `resume` may change it, and the next."""
        self.event_queue_name: str = f"{first}-events" if recorded is None else recorded.event_queue_name
        self._registry = registry
        self._config = config
        self._given = given
        self._starts_instances = starts_instances
        self._command = config.command_template()
        self._stack = contextlib.ExitStack()
        self._scratch = contextlib.ExitStack()
        self._loaded: Store | None = None
        self._compute: Compute | None = None
        self._claimed: set[str] = set()

    def __enter__(self) -> JobSetup:
        return self

    def __exit__(self, *_: object) -> None:
        with self._scratch, self._stack:
            pass

    @property
    def compute(self) -> Compute:
        """The compute backend, opened on first use."""
        if self._compute is None:
            self._compute = self._stack.enter_context(open_compute(self._config, self.job_id))
        return self._compute

    def load(self) -> int:
        """Check the whole input and load it into a new database beside the final one; return the number of tasks.

        Raises:
            InputError: The input is invalid, or has no tasks; whatever is loaded may overwrite an existing job.
        """
        spec, base_dir = self._config.task_source_of(self._given.task_file)
        if spec is None:
            raise InputError("no task source given", hint="add --task-file FILE, or set task_source")
        folder = self._given.db_file.absolute().parent
        if not folder.is_dir():
            raise InputError(f"folder {folder} not found", where="--db-file", hint="create it first")
        if self._given.db_file.is_dir():
            raise InputError(f"{self._given.db_file} is a folder", where="--db-file", hint="give the path of a file")
        _remove_leftovers(folder)
        try:
            scratch = self._scratch.enter_context(tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder))
        except OSError as error:
            raise CloudTasksError(
                f"{folder}: cannot create the job database: {error.strerror}", hint="use another folder with --db-file"
            ) from error
        self._loaded = self._stack.enter_context(
            Store.create(Path(scratch) / "job.db", self._record(str(spec), base_dir))
        )
        with open_task_source(
            self._registry, spec, base_dir=base_dir, settings_for=self._config.settings_for
        ) as source:
            start, limit = self._given.start_task, self._given.limit
            check_length(source, limit=None if limit is None else start + limit)
            tasks = CheckedTasks(source, self._check_command)
            where = str(getattr(source, "where", "")) or without_credentials(clean_text(str(spec)))
            number = self._loaded.load_tasks(tasks, start=start, limit=limit, where=where)
        if not number and not self._given.allow_empty:
            skipped = f" behind the first {self._given.start_task:,}" if self._given.start_task else ""
            raise InputError(f"no tasks{skipped}", where=where, hint="add --allow-empty to accept that")
        return number

    def check_resumable(self) -> None:
        """Check whether the existing job can be resumed with this configuration; nothing is opened or changed.

        Raises:
            InputError: The job is in another place, or has other tasks; or its command cannot run its first task.
        """
        path, spec = self._given.db_file, self._given.task_file
        job = check_recorded_place(path, self._config)
        if job is None:
            # `resume` reports why.
            return
        if spec is not None and not self._is_source_of(job, spec):
            raise InputError(
                f"the tasks of the job are those of {job.task_source}, not of {spec}",
                where="--task-file",
                hint="omit it to resume the job, or choose another job id for a new job",
            )
        if self._command is not None and path.exists():
            for task in itertools.islice(iterate_tasks(path), 1):
                self._check_command(Task(task_id=task.task_id, data=task.data))

    def _is_source_of(self, job: JobRecord, spec: str) -> bool:
        """Return whether a task source is that of a job: the same text, or another name of the same file."""
        if without_credentials(clean_text(spec)) == job.task_source:
            return True
        recorded = job.place.get(_SOURCE)
        if recorded is not None:
            return self._location_of(spec, Path.cwd()) == recorded
        # An older database: the path was relative to one of these folders.
        folders = {Path.cwd(), self._config.base_dir, self._given.db_file.absolute().parent}
        return self._location_of(spec, Path.cwd()) in {self._location_of(job.task_source, each) for each in folders}

    def _location_of(self, spec: str, folder: Path) -> str:
        return without_credentials(clean_text(location_of_source(self._registry, spec, base_dir=folder)))

    def _check_command(self, task: Task) -> None:
        if self._command is not None:
            self._command.check(self._command.values(task.task_id, task.data))

    def obstacles(self) -> tuple[str, ...]:
        """Describe what `create` would overwrite: a database, messages in its queues, instances.

        Raises:
            InputError: The earlier job has instances in another place, where `create` would not terminate them.
        """
        if records_instances(self._given.db_file):
            check_recorded_place(self._given.db_file, self._config)
        found = [_describe(self._given.db_file)] if self._given.db_file.exists() else []
        earlier = recorded_job(self._given.db_file, self.job_id)
        if earlier is not None and self._is_elsewhere(earlier):
            earlier = None
        for kind, queue in zip(("task", "event"), () if earlier is None else self._open_queues(earlier), strict=False):
            with contextlib.suppress(NotFoundError):
                depth = queue.depth()
                held = (depth.visible or 0) + (depth.in_flight or 0)
                if held:
                    found.append(f"the {kind} queue with {_count(held, 'message')}")
        if self._may_have_instances():
            running = [i for i in remaining_instances(self.compute, self.job_id) if i.is_alive]
            self._check_owner(running)
            if running:
                found.append(f"{_count(len(running), 'running instance')} ({describe_owner(running[0])})")
        return tuple(found)

    def _check_owner(self, running: Sequence[Instance]) -> None:
        """Raise `InputError` for an instance of another user, or of a run that the database does not know."""
        known_runs = read_known_runs(self._given.db_file)
        for instance in running:
            owner = instance.labels.get("owner") or owner_label()
            if owner != owner_label() or belongs_to_other_run(instance, known_runs):
                raise InputError(
                    f"job {self.job_id} is running elsewhere: instance {describe_owner(instance)}",
                    hint="use another job_id, or end that run first (cloud-tasks stop), which --force does not do",
                )

    def create(self) -> JobResources:
        """Publish the loaded database, create its queues, and delete those of the earlier job. Call after `load`.

        Raises:
            StoreError: Another process uses the existing database; nothing was removed.
        """
        assert self._loaded is not None
        store = self._loaded
        tasks, events = self._open_claimed(store.job)
        # Locked, so that no other command replaces the queues of the earlier run from here on.
        store.claim(self._given.db_file)
        self._note_former_queues(store)
        compute = self.compute if self._may_have_instances() else None
        store.note_earlier_runs(read_known_runs(self._given.db_file))
        create_resources(store, self._given.db_file, job_id=self.job_id, compute=compute, tasks=tasks, events=events)
        self._scratch.close()
        self.delete_former_queues(store)
        return JobResources(store=store, tasks=tasks, events=events)

    def resume(self) -> JobResources:
        """Open the existing job, and create its missing queues.

        Raises:
            InputError: The database does not exist.
            StoreError: It cannot be used, or belongs to another job.
        """
        path = self._given.db_file
        if not path.exists():
            raise InputError(
                f"job database {path} not found", hint="check --db-file, or start the job without --continue"
            )
        try:
            store = self._stack.enter_context(wait_for_store(lambda: Store.open(path, job_id=self.job_id)))
        except StoreError as error:
            if writer_of(path) is not None:
                raise
            raise InputError(error.message, hint=error.hint) from error
        tasks, events = wait_for_store(lambda: resume_resources(store, self._open_claimed))
        if store.job.queue_name != self.queue_name:
            log.info(f"The task queue {self.queue_name} does not exist; the new one is {store.job.queue_name}")
        self.queue_name, self.event_queue_name = store.job.queue_name, store.job.event_queue_name
        self.delete_former_queues(store)
        return JobResources(store=store, tasks=tasks, events=events)

    def delete_former_queues(self, store: Store, *, is_last: bool = False) -> None:
        """Delete the queues that the job's replaced (`queue_names.delete_former_queues`)."""
        delete_former_queues(store, lambda name: open_named_queue(self._config, self.job_id, name), is_last=is_last)

    def _record(self, spec: str, base_dir: Path) -> JobRecord:
        backends = self._config.backends
        return JobRecord(
            job_id=self.job_id,
            queue_name=self.queue_name,
            run_id=self._run_id,
            created_at=datetime.now(UTC),
            provider=self._config.provider or "",
            queue=self._config.queue,
            compute=backends.get("compute", ""),
            pricing=backends.get("pricing", ""),
            task_source=clean_text(spec),
            tool_version=cloud_tasks.__version__,
            place=place_of(self._config) | {_SOURCE: self._location_of(spec, base_dir)},
            config=self._config.as_dict(),
        )

    def _is_elsewhere(self, earlier: JobRecord) -> bool:
        """Return whether the queues of an earlier run are in another place. Call after `load`."""
        assert self._loaded is not None
        return has_queues_elsewhere(earlier, self._loaded.job.place)

    def _note_former_queues(self, store: Store) -> None:
        """Record the queues of the job that the loaded database replaces, to be deleted."""
        earlier = recorded_job(self._given.db_file, self.job_id)
        if earlier is None:
            return
        names = dict.fromkeys((*earlier.former_queues, earlier.queue_name, earlier.event_queue_name))
        if self._is_elsewhere(earlier):
            log.warning(
                f"The queues of the earlier run ({', '.join(names)}) are in another place and stay there; delete them "
                f"with the configuration of that run and `cloud-tasks delete-queue --queue-name {earlier.queue_name}`"
            )
        else:
            store.update_job(attrs.evolve(store.job, former_queues=tuple(names)))

    def _open_queues(self, job: JobRecord) -> tuple[Queue, Queue]:
        """Return the task queue and the event queue; they need not exist yet."""
        tasks = open_queue(self._config, self.job_id, job.queue_name)
        events = open_queue(self._config, self.job_id, job.event_queue_name, for_events=True)
        return self._stack.enter_context(tasks), self._stack.enter_context(events)

    def _open_claimed(self, job: JobRecord) -> tuple[Queue, Queue]:
        """Open the queues, and claim them and their base for this process, where the backend supports it.

        Raises:
            ProviderError: Another controller uses the queue, or is at work for this job with another database.
        """
        tasks, events = self._open_queues(job)
        if isinstance(tasks, OwnedQueue):
            of_base = self._stack.enter_context(open_queue(self._config, self.job_id, base_name(job)))
            for name, queue in ((job.queue_name, tasks), (base_name(job), of_base)):
                # The claim of another object of this process would be refused.
                if name not in self._claimed and isinstance(queue, OwnedQueue):
                    queue.claim()
                    self._claimed.add(name)
        return tasks, events

    def _may_have_instances(self) -> bool:
        """Return whether to list instances; loading a queue needs no permission for that."""
        return self._starts_instances or records_instances(self._given.db_file)


def _remove_leftovers(folder: Path) -> None:
    """Remove the databases of loads that were killed; their locks ended with their processes."""
    for left in folder.glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):
            is_old = time.time() - left.stat().st_mtime > _LEFTOVER_AGE
            if is_old and left.is_dir() and not left.is_symlink() and writer_of(left / "job.db") is None:
                shutil.rmtree(left)


def _describe(database: Path) -> str:
    try:
        with Store.open(database, read_only=True) as store:
            summary = store.summary()
    except StoreError as error:
        return error.message
    finished = f"{summary.finished_tasks:,} of {_count(summary.total, 'task')} finished"
    return f"job {summary.job.job_id} ({database}): {finished}"


def recorded_job(database: Path, job_id: str | None) -> JobRecord | None:
    """Return the job in a database; None if it cannot be read, or has another one."""
    try:
        with Store.open(database, job_id=job_id, read_only=True) as store:
            return store.job
    except StoreError:
        return None


def records_instances(database: Path) -> bool:
    """Return whether a database has instances that are not recorded as ended."""
    try:
        with Store.open(database, read_only=True) as store:
            return any(record.ended_at is None for record in store.instances())
    except StoreError:
        return False


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
