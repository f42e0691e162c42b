"""Names of the queues of a job: given once, recorded before use, and no queue left behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_commands import Answer, MemoryCommands
from store_facts import launch_request

from cloud_tasks.cli.context import make_registry
from cloud_tasks.config import load_config
from cloud_tasks.controller.setup.job_setup import JobInput, JobSetup
from cloud_tasks.controller.setup.queue_names import first_queue_name, with_new_names
from cloud_tasks.controller.setup.resources import resume_resources
from cloud_tasks.errors import InputError, PlaceError, ProviderError
from cloud_tasks.model import TaskStatus
from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks.store import JobRecord, Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(queue_name: str, **fields: Any) -> JobRecord:
    place = {"queue_name": "sums"}
    return JobRecord(job_id="sums", queue_name=queue_name, run_id="4f", created_at=NOW, place=place, **fields)


def test_first_names_have_the_run_id() -> None:
    job = record(first_queue_name("sums", "4f"))
    assert (job.queue_name, job.event_queue_name, job.former_queues) == ("sums-4f-1", "sums-4f-1-events", ())


def test_new_names_replace_those_of_a_former_version() -> None:
    job = with_new_names(JobRecord(job_id="sums", queue_name="q", run_id="4f", created_at=NOW))
    assert (job.queue_name, job.event_queue_name) == ("q-4f-1", "q-4f-1-events")
    assert job.former_queues == ("q", "q-events")


def test_new_names_of_one_queue_leave_the_other() -> None:
    job = with_new_names(record("sums-4f-1"), events=False)
    assert (job.queue_name, job.event_queue_name) == ("sums-4f-2", "sums-4f-1-events")
    assert job.former_queues == ("sums-4f-1",)
    # Then the events: the names match again.
    job = with_new_names(job, tasks=False)
    assert (job.queue_name, job.event_queue_name) == ("sums-4f-2", "sums-4f-2-events")


@given(st.lists(st.sampled_from([(True, True), (True, False), (False, True)]), max_size=12))
def test_names_are_given_once_and_every_former_one_is_recorded(changes: list[tuple[bool, bool]]) -> None:
    job = record("sums-4f-1")
    given_names = {job.queue_name, job.event_queue_name}
    for tasks, events in changes:
        before, job = job, with_new_names(job, tasks=tasks, events=events)
        for is_new, old, new in (
            (tasks, before.queue_name, job.queue_name),
            (events, before.event_queue_name, job.event_queue_name),
        ):
            assert (new not in given_names) if is_new else (new == old)
        given_names |= {job.queue_name, job.event_queue_name}
        assert set(job.former_queues) == given_names - {job.queue_name, job.event_queue_name}
        if tasks and events:
            assert job.event_queue_name == f"{job.queue_name}-events"


# The life of a job


class Killed(BaseException):
    """Death of the process."""


class World(MemoryCommands):
    """Provider in memory that kills commands, refuses deletions, and detects a name that is used again."""

    def __init__(self) -> None:
        super().__init__(queue={"open": self._open_queue})
        self.steps_left: int | None = None
        self.refuses_deletion = False
        self._deleted: set[str] = set()

    @contextmanager
    def _open_queue(self, settings: Any, context: QueueContext) -> Iterator[Any]:
        with self.provider.queue.open(settings, context) as queue:
            yield Watched(queue, self, context.name)

    def step(self, action: str, name: str) -> None:
        if self.steps_left == 0:
            raise Killed
        if self.steps_left is not None:
            self.steps_left -= 1
        if action == "delete" and self.refuses_deletion:
            raise ProviderError("deletion refused")
        if action == "delete" and name in self.existing:
            self._deleted.add(name)
        assert action != "create" or name not in self._deleted, f"{name} was created again"

    @property
    def existing(self) -> set[str]:
        return set(self.provider.queues.messages)

    def call_killed(self, *words: str, after: int) -> Answer | None:
        """Run a command that is killed after a number of steps; return the answer of one that has fewer."""
        self.steps_left = after
        try:
            return self.call(*words)
        except Killed:
            return None
        finally:
            self.steps_left = None


class Watched:
    """Queue that reports each step to the world before it."""

    def __init__(self, inner: Any, world: World, name: str) -> None:
        self._inner, self._world, self._name = inner, world, name

    def __getattr__(self, action: str) -> Any:
        if action in ("create", "delete", "purge", "send"):
            self._world.step(action, self._name)
        return getattr(self._inner, action)


def job_record() -> JobRecord:
    with Store.open(Path("job.db"), read_only=True) as store:
        return store.job


def names_of(job: JobRecord) -> set[str]:
    return {job.queue_name, job.event_queue_name}


JOB = ("--job-id", "job")
LOAD = ("load-queue", *JOB, "--task-file", "tasks.json", "--force")
CONTINUE = ("load-queue", *JOB, "--continue")
ONLY = ("--task-queue-only", "--event-queue-only")
COMMANDS = (
    LOAD,
    CONTINUE,
    *(
        (command, *JOB, "--force", *options)
        for command in ("purge-queue", "delete-queue")
        for options in ((), *((option,) for option in ONLY))
    ),
    ("stop", *JOB),
    ("stop", *JOB, "--purge-queue"),
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps([{"id": name, "data": {}} for name in "abc"]))
    return World()


@pytest.mark.parametrize("seed", range(40))
def test_queues_of_a_job_are_all_known_after_kills_at_any_step(world: World, seed: int) -> None:
    rng = random.Random(seed)
    assert world.call(*LOAD).error is None
    for _ in range(8):
        world.refuses_deletion = rng.random() < 0.2
        words = rng.choice(COMMANDS)
        world.call_killed(*words, after=rng.choice((0, 1, 2, 3, 4, 5, 99)))
        job = job_record()
        assert world.existing <= names_of(job) | set(job.former_queues), words
    world.refuses_deletion = False
    assert world.call(*CONTINUE).error is None
    assert world.existing == names_of(job_record())
    with Store.open(Path("job.db"), read_only=True) as store:
        assert store.counts()[TaskStatus.QUEUED] == 3
    depth = world.job_queue().depth()
    assert (depth.visible or 0) >= 3
    assert world.call("delete-queue", *JOB, "--force").error is None
    assert world.existing == set()


@pytest.mark.parametrize("last", [("stop", *JOB), ("delete-queue", *JOB, "--force"), CONTINUE, LOAD])
def test_queue_that_could_not_be_deleted_is_deleted_by_a_later_command(world: World, last: tuple[str, ...]) -> None:
    world.call(*LOAD)
    old = names_of(job_record())
    world.refuses_deletion = True
    answer = world.call(*LOAD)
    assert answer.error is None
    assert old <= world.existing
    assert old <= set(job_record().former_queues)
    world.refuses_deletion = False
    assert world.call(*last).error is None
    assert not old & world.existing


def test_purge_replaces_the_queues_and_records_it(world: World) -> None:
    world.call(*LOAD)
    before = job_record()
    answer = world.call("purge-queue", *JOB, "--force")
    after = job_record()
    assert after.queue_name == before.queue_name.removesuffix("1") + "2"
    assert after.event_queue_name == f"{after.queue_name}-events"
    assert f"Emptied task queue {before.queue_name}; the new one is {after.queue_name}\n" in answer.out
    assert (world.existing, after.former_queues) == (names_of(after), ())


def test_purge_keeps_the_names_that_instances_know(world: World) -> None:
    world.call(*LOAD)
    before = job_record()
    with Store.open(Path("job.db")) as store:
        store.record_intents([launch_request("t1")], NOW)
    assert world.call("purge-queue", *JOB, "--force").error is None
    assert job_record() == before
    assert world.job_queue().depth().visible == 0


def test_database_of_a_former_version_names_its_queues(world: World) -> None:
    world.call(*LOAD)
    with Store.open(Path("job.db")) as store:
        new = names_of(store.job)
        store.update_job(attrs.evolve(store.job, queue_name="job", event_queue_name="job-events"))
    for name in new:
        world.queue(name).delete()
    for name in ("job", "job-events"):
        world.queue(name).create()
    world.queue("job").send([b"{}"])
    shown = world.call("show-queue", *JOB, "--json").data
    assert [(row["queue"], row["exists"]) for row in shown] == [("job", True), ("job-events", True)]
    assert world.call(*CONTINUE).error is None
    assert job_record().queue_name == "job"
    assert world.call("purge-queue", *JOB, "--force").error is None
    assert world.existing == names_of(job_record())
    assert job_record().queue_name.endswith("-1")


@pytest.mark.parametrize(
    "words", [("show-queue",), ("purge-queue", "-f"), ("delete-queue", "-f"), ("stop", "--purge-queue")]
)
def test_commands_without_a_database_need_the_full_name(world: World, words: tuple[str, ...], tmp_path: Path) -> None:
    world.call(*LOAD)
    name, before = job_record().queue_name, world.existing
    (tmp_path / "job.db").rename(tmp_path / "moved.db")
    world.launch("token")
    (tmp_path / "config.yml").write_text("run: {job_id: job, queue_name: job}\n")
    for options in (JOB, ("--config", "config.yml")):
        answer = world.call(*words, *options)
        assert isinstance(answer.error, InputError)
        assert str(answer.error) == (
            "job.db: the job database, which names the queues, was not found; "
            "check --db-file, or give the full name with --queue-name"
        )
    assert world.existing == before
    assert len(world.call("list-running-instances", *JOB, "--json").data) == 1
    assert world.call(*words, *JOB, "--queue-name", name).error is None


def test_full_names_are_shown_where_workers_are_started(world: World) -> None:
    loaded = world.call(*LOAD)
    name = job_record().queue_name
    assert f"Loaded 3 tasks into queue {name}; database job.db\n" in loaded.out
    assert f"  Queue: {name}\n" in world.call("status", *JOB).out
    world.call("purge-queue", *JOB, "--force", "--task-queue-only")
    job = job_record()
    assert f"  Queue: {job.queue_name}, with event queue {name}-events\n" in world.call("status", *JOB).out
    facts = world.call("status", *JOB, "--json").data
    assert (facts["queue"], facts["event_queue"]) == (job.queue_name, f"{name}-events")
    assert f"Queue: {job.queue_name}, with event queue {name}-events" in world.call(*CONTINUE).err


def test_another_start_of_the_names_is_refused(world: World, tmp_path: Path) -> None:
    world.call(*LOAD)
    (tmp_path / "config.yml").write_text("run: {job_id: job, queue_name: other}\n")
    for command in ("show-queue", "purge-queue", "load-queue"):
        options = ("--continue",) if command == "load-queue" else ()
        assert isinstance(world.call(command, "--config", "config.yml", *options).error, PlaceError)


def test_full_name_is_accepted_in_place_of_the_start(world: World) -> None:
    world.call(*LOAD)
    name = job_record().queue_name
    for words in (CONTINUE, ("show-queue", *JOB), ("stop", *JOB, "--purge-queue"), CONTINUE):
        assert world.call(*words, "--queue-name", name).error is None


def test_queues_of_an_earlier_run_in_another_place_are_named(world: World) -> None:
    world.call(*LOAD)
    with Store.open(Path("job.db")) as store:
        before = names_of(store.job)
        store.update_job(attrs.evolve(store.job, place={**store.job.place, "queue": "elsewhere"}, queue="elsewhere"))
    answer = world.call(*LOAD)
    assert answer.error is None
    assert job_record().former_queues == ()
    for name in before:
        assert name in answer.err


def test_claims_of_one_process_do_not_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    registry = make_registry()
    config = load_config(registry, file=None, options={"provider": "local", "run.job_id": "job"}, environ={})
    given_input = JobInput(db_file=tmp_path / "job.db", task_file="tasks.json")
    with JobSetup(registry, config, given_input, starts_instances=False) as setup:
        setup.load()
        setup.create()

    def repeated(store: Store, open_queues: Callable[[JobRecord], tuple[Queue, Queue]]) -> tuple[Queue, Queue]:
        """Resume as after a database that could not be used at first."""
        resume_resources(store, open_queues)
        return resume_resources(store, open_queues)

    monkeypatch.setattr("cloud_tasks.controller.setup.job_setup.resume_resources", repeated)
    with JobSetup(registry, config, given_input, starts_instances=False, resume=True) as setup:
        assert setup.resume().tasks.exists()
        elsewhere = attrs.evolve(given_input, db_file=tmp_path / "two.db")
        with JobSetup(registry, config, elsewhere, starts_instances=False) as two:
            two.load()
            with pytest.raises(ProviderError, match="in use by the controller of job job"):
                two.create()
