"""`show-queue`, `purge-queue`, `delete-queue` and `load-queue`, with the provider in memory."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from command_line import CommandLine
from memory_commands import MemoryCommands
from store_facts import started
from terminal import in_a_terminal

from cloud_tasks.convert import decode_task_message
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.model import TaskStatus
from cloud_tasks.plugin import QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks.store import Store

NO_WAIT = timedelta(0)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    tasks = [{"id": f"t{number}", "data": {"n": number}} for number in range(1, 8)]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    return MemoryCommands()


def fill(commands: MemoryCommands, *, tasks: int = 3, events: int = 1) -> None:
    for name, count in (("job", tasks), ("job-events", events)):
        queue = commands.queue(name)
        queue.create()
        queue.send([json.dumps({"task_id": f"t{number}"}).encode() for number in range(count)])


def depths(commands: MemoryCommands, option: str = "--job-id") -> list[int | None]:
    """Return the number of messages in each queue of the job; with ``--queue-name``, in the queues ``job``."""
    rows = commands.call("show-queue", option, "job", "--json").data
    return [row["visible"] for row in rows]


# show-queue


def test_show_queue_shows_both_queues(commands: MemoryCommands) -> None:
    fill(commands)
    lines = commands.call("show-queue", "--queue-name", "job").out.splitlines()
    assert [line.split()[:5] for line in lines[2:]] == [
        ["job", "tasks", "yes", "3", "0"],
        ["job-events", "events", "yes", "1", "0"],
    ]


def test_show_queue_shows_a_missing_queue(commands: MemoryCommands) -> None:
    rows = commands.call("show-queue", "--queue-name", "job", "--json").data
    assert [(row["queue"], row["exists"], row["visible"]) for row in rows] == [
        ("job", False, None),
        ("job-events", False, None),
    ]


def test_show_queue_selects_one_queue(commands: MemoryCommands) -> None:
    for option, name in (("--task-queue-only", "job"), ("--event-queue-only", "job-events")):
        rows = commands.call("show-queue", "--queue-name", "job", option, "--json").data
        assert [row["queue"] for row in rows] == [name]


def test_show_queue_shows_a_sample_that_stays_in_the_queue(commands: MemoryCommands) -> None:
    fill(commands, tasks=1, events=0)
    tasks, events = commands.call("show-queue", "--queue-name", "job", "--detail", "--json").data
    assert (tasks["sample"], events["sample"]) == ({"task_id": "t0"}, None)
    text = commands.call("show-queue", "--queue-name", "job", "--detail").out
    assert '"task_id": "t0"' in text
    assert "job-events: no sample message" in text
    assert depths(commands, "--queue-name") == [1, 0]


def test_show_queue_shows_a_sample_that_is_not_json_as_text(commands: MemoryCommands) -> None:
    queue = commands.queue("job")
    queue.create()
    queue.send([b"\xffhello"])
    answer = commands.call("show-queue", "--queue-name", "job", "--task-queue-only", "--detail", "--json")
    assert answer.data[0]["sample"] == "\N{REPLACEMENT CHARACTER}hello"


# purge-queue, delete-queue


@pytest.mark.parametrize(
    ("options", "left"), [([], [0, 0]), (["--task-queue-only"], [0, 1]), (["--event-queue-only"], [3, 0])]
)
def test_purge_queue_removes_the_messages(commands: MemoryCommands, options: list[str], left: list[int]) -> None:
    fill(commands)
    assert commands.call("purge-queue", "--queue-name", "job", "--force", *options).code == 0
    assert depths(commands, "--queue-name") == left


@pytest.mark.parametrize(
    ("options", "left"), [([], [None, None]), (["--task-queue-only"], [None, 1]), (["--event-queue-only"], [3, None])]
)
def test_delete_queue_removes_the_queue(commands: MemoryCommands, options: list[str], left: list[int | None]) -> None:
    fill(commands)
    assert commands.call("delete-queue", "--queue-name", "job", "-f", *options).code == 0
    assert depths(commands, "--queue-name") == left


@pytest.mark.parametrize("command", ["purge-queue", "delete-queue"])
def test_removal_of_a_missing_queue_is_no_error(commands: MemoryCommands, command: str) -> None:
    answer = commands.call(command, "--queue-name", "job", "--force")
    assert answer.code == 0
    assert answer.out == "No task queue job found\nNo event queue job-events found\n"


@pytest.mark.parametrize("command", ["purge-queue", "delete-queue"])
def test_removal_as_json(commands: MemoryCommands, command: str) -> None:
    commands.queue("job").create()
    extra = {"new_queue": None} if command == "purge-queue" else {}
    assert commands.call(command, "--queue-name", "job", "--force", "--json").data == [
        {"queue": "job", "kind": "tasks", "existed": True, **extra},
        {"queue": "job-events", "kind": "events", "existed": False, **extra},
    ]


@pytest.mark.parametrize("command", ["purge-queue", "delete-queue"])
def test_removal_without_a_terminal_requires_force(commands: MemoryCommands, command: str) -> None:
    fill(commands)
    error = commands.call(command, "--queue-name", "job").error
    assert isinstance(error, InputError)
    assert "3 messages" in str(error)
    assert "--force" in str(error)
    assert depths(commands, "--queue-name") == [3, 1]


@pytest.mark.parametrize(
    ("command", "answer", "code", "said"),
    [
        ("purge-queue", "EMPTY job", 0, "Type EMPTY job to confirm"),
        ("purge-queue", "yes", 2, "not confirmed, nothing was changed"),
        ("delete-queue", "DELETE job", 0, "This will delete task queue job with 1 message."),
        ("delete-queue", "DELETE", 2, "not confirmed, nothing was changed"),
    ],
)
def test_removal_requires_the_exact_confirmation(
    shell: CommandLine, command: str, answer: str, code: int, said: str
) -> None:
    shell.configure()
    backend = Registry().queue("local")
    context = QueueContext(job_id="job", name="job", lease=backend.traits.max_lease)
    with backend.open(backend.settings(state_dir=shell.folder / ".cloud-tasks"), context) as queue:
        queue.create()
        queue.send([b"{}"])
        session = in_a_terminal(
            shell.folder, answer, command, "--config", "config.yml", "--queue-name", "job", "--task-queue-only"
        )
        assert (session.code, said in session.err) == (code, True)
        assert queue.exists() == (command != "delete-queue" or code != 0)
        if queue.exists():
            assert queue.depth().visible == (0 if code == 0 else 1)


# load-queue


def name_of_queue() -> str:
    with Store.open(Path("job.db"), read_only=True) as store:
        return store.job.queue_name


def load(commands: MemoryCommands, *arguments: str) -> str | None:
    """Load the tasks; return the error, if any."""
    answer = commands.call("load-queue", "--job-id", "job", *arguments)
    return None if answer.error is None else str(answer.error)


def test_load_queue_fills_database_and_queue_and_creates_the_event_queue(
    commands: MemoryCommands, tmp_path: Path
) -> None:
    assert load(commands, "--task-file", "tasks.json") is None
    assert depths(commands) == [7, 0]
    with Store.open(tmp_path / "job.db", read_only=True) as store:
        assert store.summary().counts[TaskStatus.QUEUED] == 7
        assert store.job.task_source == "tasks.json"


def test_load_queue_as_json(commands: MemoryCommands) -> None:
    loaded = commands.call("load-queue", "--job-id", "job", "--task-file", "tasks.json", "--json").data
    queue = name_of_queue()
    assert loaded == {
        "job_id": "job",
        "queue": queue,
        "event_queue": f"{queue}-events",
        "database": "job.db",
        "tasks": 7,
    }
    assert commands.call("load-queue", "--job-id", "job", "--continue", "--json").data["counts"]["queued"] == 7


def test_load_queue_counts_the_start_task_from_one(commands: MemoryCommands) -> None:
    assert load(commands, "--task-file", "tasks.json", "--start-task", "2", "--limit", "2") is None
    bodies = [each.body for each in commands.job_queue().receive(10, wait=NO_WAIT)]
    assert [decode_task_message(body).task_id for body in bodies] == ["t2", "t3"]


def test_load_queue_dry_run_changes_nothing(commands: MemoryCommands, tmp_path: Path) -> None:
    assert load(commands, "--task-file", "tasks.json", "--dry-run") is None
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.json"]
    assert commands.provider.queues.messages == {}


def test_load_queue_dry_run_prints_its_result_as_json(commands: MemoryCommands) -> None:
    arguments = ("load-queue", "--job-id", "job", "--task-file", "tasks.json", "--json")
    planned = json.loads(commands.call(*arguments, "--dry-run").out)
    facts = json.loads(commands.call(*arguments).out)
    # The name of the queue has the id of its run, which a dry run does not have.
    assert {**planned, "queue": ""} == {
        "job_id": "job",
        "queue": "",
        "event_queue": planned["queue"] + "-events",
        "database": "job.db",
        "tasks": 7,
        "dry_run": True,
        "obstacles": [],
    }
    assert facts["queue"] == name_of_queue()
    found = json.loads(commands.call(*arguments, "--dry-run").out)
    assert len(found["obstacles"]) == 2
    commands.call("delete-queue", "--job-id", "job", "--force")
    resumed = commands.call("load-queue", "--job-id", "job", "--continue", "--dry-run", "--json")
    assert json.loads(resumed.out) == {**facts, "dry_run": True}


def test_load_queue_of_an_invalid_file_changes_nothing(commands: MemoryCommands, tmp_path: Path) -> None:
    fill(commands)
    (tmp_path / "tasks.json").write_text('[{"id": "a", "data": {}}, {"id": "a", "data": {}}]')
    assert "a" in (load(commands, "--task-file", "tasks.json", "--force") or "")
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.json"]
    assert depths(commands, "--queue-name") == [3, 1]


def test_load_queue_overwrites_a_job_only_with_confirmation(commands: MemoryCommands) -> None:
    load(commands, "--task-file", "tasks.json")
    error = load(commands, "--task-file", "tasks.json", "--limit", "2") or ""
    assert "job job (job.db): 0 of 7 tasks finished" in error
    assert "the task queue with 7 messages" in error
    assert depths(commands) == [7, 0]
    assert load(commands, "--task-file", "tasks.json", "--limit", "2", "--force") is None
    assert depths(commands) == [2, 0]


def test_load_queue_continue_sends_only_what_a_deleted_queue_held(commands: MemoryCommands) -> None:
    load(commands, "--task-file", "tasks.json")
    assert load(commands, "--continue") is None
    assert depths(commands) == [7, 0]
    commands.call("delete-queue", "--job-id", "job", "--force")
    assert load(commands, "--continue", "--dry-run") is None
    assert depths(commands) == [None, None]
    assert load(commands, "--continue") is None
    assert depths(commands) == [7, 0]


def test_load_queue_continue_sends_purged_tasks_but_none_that_a_worker_or_event_may_hold(
    commands: MemoryCommands,
) -> None:
    load(commands, "--task-file", "tasks.json")
    queue = commands.job_queue()
    leased = queue.receive(10, wait=NO_WAIT)
    assert load(commands, "--continue") is None
    assert queue.depth().visible == 0
    queue.ack([delivery.lease_id for delivery in leased])
    commands.job_queue("event").send([b"[]"])
    assert load(commands, "--continue") is None
    assert depths(commands) == [0, 1]
    commands.call("purge-queue", "--job-id", "job", "--force")
    assert load(commands, "--continue") is None
    assert depths(commands) == [7, 0]


@pytest.mark.parametrize("command", ["purge-queue", "delete-queue"])
def test_load_queue_continue_sends_removed_tasks_of_an_inexact_queue(
    commands: MemoryCommands, tmp_path: Path, command: str
) -> None:
    commands.provider.exact_depth = False
    load(commands, "--task-file", "tasks.json")
    with Store.open(tmp_path / "job.db") as store:
        store.apply_events([started("t1")])
    commands.call(command, "--job-id", "job", "--force")
    with Store.open(tmp_path / "job.db") as store:
        assert store.withdrawn()
    assert load(commands, "--continue") is None
    assert depths(commands) == [7, 0]
    with Store.open(tmp_path / "job.db") as store:
        assert not store.withdrawn()


def test_purge_queue_beside_a_running_controller_warns_about_the_database(
    commands: MemoryCommands, tmp_path: Path
) -> None:
    load(commands, "--task-file", "tasks.json")
    with Store.open(tmp_path / "job.db"):
        answer = commands.call("purge-queue", "--job-id", "job", "--force")
    assert answer.code == 0
    assert "in use by another cloud-tasks process" in answer.err
    assert depths(commands) == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no task source given"),
        (["--task-file", "nothing.json"], "file not found"),
        (["--continue"], "not found; check --db-file, or start the job without --continue"),
        (["--continue", "--task-file", "tasks.json"], "omit --task-file"),
        (["--task-file", "tasks.json", "--db-file", "no/where.db"], " not found; create it first"),
    ],
)
def test_queue_commands_report_misuse_in_one_line(commands: MemoryCommands, arguments: list[str], reason: str) -> None:
    assert reason in (load(commands, *arguments) or "")


def test_load_queue_leaves_the_database_of_a_running_controller_alone(commands: MemoryCommands, tmp_path: Path) -> None:
    load(commands, "--task-file", "tasks.json")
    with Store.open(tmp_path / "job.db"):
        answer = commands.call("load-queue", "--job-id", "job", "--task-file", "tasks.json", "--force")
    assert isinstance(answer.error, StoreError)
    assert depths(commands) == [7, 0]
