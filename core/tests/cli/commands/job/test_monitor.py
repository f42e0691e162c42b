"""`monitor`: collection of events of workers started by hand."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from command_line import CommandLine, wait_until
from memory_commands import Answer, MemoryCommands
from store_facts import completed, failed, started
from terminal import Screen

from cloud_tasks.convert import encode_events
from cloud_tasks.model import Event
from cloud_tasks.plugin import QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks.store import JobState, Store


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryCommands:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps([{"id": name, "data": {}} for name in ("a", "b")]))
    commands = MemoryCommands()
    assert commands.call("load-queue", "--job-id", "job", "--task-file", "tasks.json").error is None
    return commands


def report(commands: MemoryCommands, *events: Event) -> None:
    """Send events as workers do."""
    commands.job_queue("event").send([encode_events(events)])


def monitor(commands: MemoryCommands, *arguments: str) -> Answer:
    return commands.call("monitor", "--job-id", "job", "--scaling-check-interval", "0.05", *arguments)


def test_monitor_exits_with_the_report_when_all_tasks_are_finished(commands: MemoryCommands, tmp_path: Path) -> None:
    report(commands, started("a"), completed("a", elapsed=2.0))
    report(commands, failed("b", message="broken"))
    answer = monitor(commands)
    assert answer.code == 3
    assert "=== JOB FINISHED: 1 of 2 tasks failed ===" in answer.out
    assert "See one: cloud-tasks logs --job-id job b\n" in answer.out
    retry = "Retry them: cloud-tasks run --retry-failed --provider memory --job-id job --scaling-check-interval 0.05\n"
    assert retry in answer.out
    assert "Total tasks: 2\n  Completed: 1\n  Failed: 1\n" in answer.out
    assert "ValueError: broken" in answer.out
    with Store.open(tmp_path / "job.db", read_only=True) as store:
        assert (store.summary().finished, store.job.state) == (True, JobState.FINISHED)


def test_monitor_keeps_the_queues(commands: MemoryCommands) -> None:
    report(commands, completed("a"), completed("b"))
    monitor(commands)
    assert commands.job_queue().exists()
    assert commands.job_queue("event").depth().visible == 0


def test_monitor_of_a_finished_job_exits_at_once(commands: MemoryCommands) -> None:
    report(commands, completed("a"), completed("b"))
    monitor(commands)
    assert monitor(commands).code == 0


def test_monitor_prints_and_copies_events(commands: MemoryCommands, tmp_path: Path) -> None:
    report(commands, completed("a"), completed("b"))
    answer = monitor(commands, "--print-events", "--output-file", "events.jsonl")
    copied = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["task_id"] for line in copied] == ["a", "b"]
    assert answer.out.splitlines()[:2] == copied


def test_monitor_prints_the_result_as_json(commands: MemoryCommands) -> None:
    report(commands, completed("a"), failed("b"))
    facts = monitor(commands, "--json").data
    assert (facts["finished"], facts["counts"]["completed"], facts["failures"]) == (True, 1, 1)


def test_monitor_is_accepted_by_its_older_name(commands: MemoryCommands) -> None:
    report(commands, completed("a"), completed("b"))
    assert commands.call("monitor_event_queue", "--job-id", "job").code == 0


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("delete-queue", '-1-events" not found'),
        ("remove the database", " not found"),
    ],
)
def test_monitor_names_missing_queues_and_databases(
    commands: MemoryCommands, tmp_path: Path, prepare: str, reason: str
) -> None:
    if prepare == "delete-queue":
        commands.call("delete-queue", "--job-id", "job", "--force")
    else:
        (tmp_path / "job.db").unlink()
    assert reason in str(monitor(commands).error)


@pytest.mark.parametrize("options", [(), ("--no-auto-complete",)])
def test_monitor_loses_nothing_when_interrupted(shell: CommandLine, options: tuple[str, ...]) -> None:
    shell.configure()
    (shell.folder / "tasks.json").write_text(json.dumps([{"id": name, "data": {}} for name in ("a", "b")]))
    assert shell.run("load-queue", "-c", "config.yml", "--task-file", "tasks.json").code == 0
    backend = Registry().queue("local")
    with Store.open(shell.folder / "job.db", read_only=True) as store:
        name = store.job.event_queue_name
    context = QueueContext(job_id="job", name=name, lease=backend.traits.max_lease)
    events = [completed("a"), completed("b")] if options else [completed("a")]
    with backend.open(backend.settings(state_dir=shell.folder / ".cloud-tasks"), context) as queue:
        queue.send([encode_events(events)])
        process = shell.start("monitor", "-c", "config.yml", *options)

        def collected() -> bool:
            with Store.open(shell.folder / "job.db", read_only=True) as store:
                return store.summary().finished_tasks == len(events)

        wait_until(collected)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert queue.depth().visible == 0
    assert "Interrupted" in err
    assert process.returncode == (0 if options else 130)


def test_monitor_shows_the_live_view_on_a_terminal(shell: CommandLine) -> None:
    shell.configure()
    (shell.folder / "tasks.json").write_text(json.dumps([{"id": name, "data": {}} for name in ("a", "b")]))
    assert shell.run("load-queue", "-c", "config.yml", "--task-file", "tasks.json").code == 0
    backend = Registry().queue("local")
    with Store.open(shell.folder / "job.db", read_only=True) as store:
        name = store.job.event_queue_name
    context = QueueContext(job_id="job", name=name, lease=backend.traits.max_lease)
    with (
        backend.open(backend.settings(state_dir=shell.folder / ".cloud-tasks"), context) as queue,
        Screen(shell.folder, "monitor", "-c", "config.yml") as screen,
    ):
        wait_until(lambda: "0 of 2 tasks (0%)" in screen.shown)
        queue.send([encode_events([failed("a", message="broken")])])
        wait_until(lambda: "1 of 2 tasks (50%)" in screen.shown)
        wait_until(lambda: "ValueError: broken" in screen.shown)
        queue.send([encode_events([completed("b")])])
        assert screen.end() == 3
    assert "=== JOB FINISHED: 1 of 2 tasks failed ===" in screen.shown
    assert "Summary:" not in screen.shown
