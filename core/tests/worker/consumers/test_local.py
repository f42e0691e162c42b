"""Workers with a local source: tasks, event log and log lines."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest
from worker_harness import is_alive, wait_until

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO - "


def test_log_has_the_documented_lines(worker) -> None:
    finished = worker.run_tasks({"do": "nothing"})
    for line in (
        "Configuration:",
        r'  Using local tasks file: "\S+/tasks\.json"',
        r"  Num simultaneous tasks \(default\): 1",
        r"  Event log file: events\.log",
        r"Started single-task worker #0 \(PID \d+\)",
        "Worker #0: Started, processing task task-0",
        r"Worker #0: Completed task task-0 in \d+\.\d\d seconds, retry False",
        "Worker #0: Exiting",
        r"Worker #0 reported task task-0 completed in \d+\.\d seconds with no retry; result: nothing",
    ):
        assert re.search(f"^{STAMP}{line}$", finished.log, re.MULTILINE), line
    assert worker.noted("returned") == ["normally"]


def test_local_source_is_a_generator_of_the_program(worker) -> None:
    assert worker.run(PROGRAM_TASKS="40").code == 0
    assert [event["task_id"] for event in worker.events("task_completed")] == [f"made-{n}" for n in range(40)]


def test_local_source_skips_and_limits_tasks(worker) -> None:
    worker.run("--tasks-to-skip", "2", "--max-num-tasks", "3", PROGRAM_TASKS="10")
    assert [event["task_id"] for event in worker.events("task_completed")] == ["made-2", "made-3", "made-4"]


def test_options_are_read_from_the_command_line_then_from_both_prefixes(worker) -> None:
    worker.run(
        "--max-num-tasks", "2", PROGRAM_TASKS="9", CLOUD_TASKS_MAX_NUM_TASKS="5", RMS_CLOUD_TASKS_TO_SKIP="4"
    )  # fmt: skip
    assert [event["task_id"] for event in worker.events("task_completed")] == ["made-4", "made-5"]


@pytest.mark.parametrize("args", [("--task-file", "missing.json"), ("--max-runtime", "-3"), ("--no-such-option",)])
def test_worker_exits_with_code_2_for_bad_input(worker, args) -> None:
    finished = worker.run(*args)
    assert finished.code == 2
    assert "Traceback" not in finished.log
    assert worker.nothing_is_left()


def test_worker_runs_the_complete_tasks_of_a_truncated_file_and_exits_with_code_2(worker) -> None:
    path = worker.folder / "cut.json"
    path.write_text('[{"task_id": "a", "data": {}}, {"task_id": "b", "da')
    finished = worker.run("--task-file", str(path))
    assert finished.code == 2
    assert "the file ends in the middle" in finished.log
    assert [event["task_id"] for event in worker.events("task_completed")] == ["a"]


def test_local_consumer_retries_failed_tasks(worker) -> None:
    worker.run_tasks({"do": "raise until", "attempts": 3}, args=("--retry-on-exception", "--backoff-base", "0.05"))
    kinds = [(event["event_type"], event["attempt"]) for event in worker.events() if event.get("task_id")]
    assert kinds[-1] == ("task_completed", 3)
    assert worker.noted("attempts") == ["1", "2", "3"]


def test_sigint_lets_running_tasks_finish(worker) -> None:
    process = worker.start("--task-file", worker.task_file({"do": "wait for shutdown"}, {"do": "nothing"}))
    wait_until(lambda: worker.noted("waiting"))
    process.send_signal(signal.SIGINT)
    assert worker.finish(process).code == 130
    assert [event["task_id"] for event in worker.events("task_completed")] == ["task-0"]
    assert worker.nothing_is_left()


def test_resume_selects_uncompleted_tasks_and_retry_failed_only_failed_ones(worker) -> None:
    worker.run_tasks({"do": "nothing"}, {"do": "raise"}, {"do": "nothing"}, args=("--max-num-tasks", "2"))
    with (worker.folder / "events.log").open("a") as log:
        log.write('{"event_type": "task_comp')
    first = len(worker_events(worker))
    worker.run("--task-file", str(worker.folder / "tasks.json"), "--retry-failed")
    assert started_after(worker, first) == ["task-1"]
    second = len(worker_events(worker))
    worker.run("--task-file", str(worker.folder / "tasks.json"), "--resume")
    assert started_after(worker, second) == ["task-1", "task-2"]


def worker_events(worker) -> list[dict[str, object]]:
    found = []
    for line in (worker.folder / "events.log").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def started_after(worker, count: int) -> list[object]:
    return [event["task_id"] for event in worker_events(worker)[count:] if event["event_type"] == "task_started"]


def test_worker_rejects_an_unwritable_event_log_before_any_task(worker) -> None:
    finished = worker.run("--event-log-file", "no/such/folder/events.log")
    assert finished.code == 2
    assert "no/such/folder/events.log" in finished.log
    assert "Started" not in finished.log


def test_worker_exits_with_an_error_if_the_disk_of_the_event_log_is_full(worker) -> None:
    finished = worker.run("--event-log-file", "/dev/full", CLOUD_TASKS_FLUSH_PERIOD="1", PROGRAM_TASKS="3")
    assert finished.code == 1
    assert "No space left on device" in finished.log


def test_reused_processes_report_each_kind_of_failure(worker) -> None:
    tasks = [
        {"do": "nothing"},
        {"do": "raise"},
        {"do": "crash"},
        {"do": "big", "size": 3_000_000},
        {"do": "sys.exit", "code": 3},
    ]
    worker.run_tasks(*tasks, {"do": "hang"}, *tasks, args=("--reuse-processes", "3", "--max-runtime", "3"))
    kinds = [
        event["event_type"]
        for event in worker.events()
        if event.get("task_id") and "started" not in event["event_type"]
    ]
    expected = ["task_completed", "task_exception", "task_exited", "task_completed", "task_exited"]
    assert kinds == [*expected, "task_timed_out", *expected]
    assert [len(event["result"]) for event in worker.events("task_completed")].count(3_000_000) == 2
    assert worker.nothing_is_left()
    assert not any(is_alive(pid) for pid in worker.pids())


def test_reused_processes_run_at_most_their_number_of_tasks(worker) -> None:
    worker.run("--reuse-processes", "10", PROGRAM_TASKS="25")
    assert len({event["pid"] for event in worker.events("task_started")}) == 3


def test_power_off_command_runs_at_every_end(worker) -> None:
    for args in ((), ("--task-file", "missing.json")):
        worker.run("--power-off-command", "echo off >> switched", *args)
    assert worker.noted("switched") == ["off", "off"]


def test_progress_log_shows_the_rate(worker) -> None:
    tasks = [{"do": "sleep", "seconds": 0.2}] * 4
    assert "tasks/s" in worker.run_tasks(*tasks, args=("--progress-interval", "0.2")).log


def test_worker_runs_with_a_closed_standard_error(worker) -> None:
    process = worker.start(PROGRAM_TASKS="3")
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    assert process.wait(60) == 0
    assert len(worker.events("task_completed")) == 3


def test_sink_forwarder_writes_events_to_the_named_sinks(worker) -> None:
    finished = worker.run("--event-sinks", "jsonl,console", PROGRAM_TASKS="3")
    assert finished.code == 0, finished.log
    assert (worker.folder / "cloud-tasks-events.jsonl").read_text().count('"task_completed"') == 3
    assert finished.output.count('"task_completed"') == 3


def test_sink_forwarder_counts_the_events_that_a_failing_sink_did_not_get(worker) -> None:
    (worker.folder / "cloud-tasks-events.jsonl").symlink_to("/dev/full")
    finished = worker.run("--event-sinks", "jsonl", CLOUD_TASKS_FLUSH_PERIOD="0.5", PROGRAM_TASKS="3")
    assert finished.code == 0, finished.log
    assert 'The event sink "jsonl" did not get 8 events' in finished.log
    assert len(worker.events("task_completed")) == 3


def test_worker_rejects_an_unknown_sink(worker) -> None:
    finished = worker.run("--event-sinks", "jsnol")
    assert finished.code == 2
    assert 'did you mean "jsonl"' in finished.log


def test_worker_with_a_task_file_imports_no_plugin_interface(worker) -> None:
    program = worker.folder / "lean.py"
    program.write_text(
        "import atexit, sys\n"
        "from cloud_tasks.worker import Worker\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        "Worker(lambda task_id, data, worker: (False, None)).run()\n"
    )
    finished = subprocess.run(
        [sys.executable, str(program), "--task-file", worker.task_file({}, {})],
        cwd=worker.folder, env=worker.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy = {"attrs", "attr", "pluggy", "inspect", "asyncio", "subprocess", "multiprocessing", "logging", "datetime"}
    heavy |= {
        "cloud_tasks.model",
        "cloud_tasks.plugin",
        "cloud_tasks.registry",
        "cloud_tasks.builtin",
        "socket",
        "pathlib",
    }
    assert heavy & set(finished.stdout.split()) == set()
    assert len(worker.events("task_completed")) == 2


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("twice.json", '[{"id": "a", "data": {}},\n{"id": "b", "data": {}},\n{"id": "a", "data": {}}]', "twice.json:3"),
        ("twice.jsonl", '{"id": "a", "data": {}}\n\n{"id": "a", "data": {}}\n', "twice.jsonl:3"),
        ("twice.yaml", "- {id: a, data: {}}\n- {id: a, data: {}}\n", "twice.yaml:2"),
    ],
)
def test_local_consumer_refuses_a_duplicate_id_with_its_line(worker, name: str, content: str, place: str) -> None:
    (worker.folder / name).write_text(content)
    finished = worker.run("--task-file", name)
    assert finished.code == 2
    assert re.search(rf'{re.escape(place)}: task \d: duplicate id "a"; give every task a unique id', finished.log)
    assert [event["task_id"] for event in worker.events("task_completed")].count("a") == 1
    # The tasks before it are not run again, and the duplicate is still refused.
    assert worker.run("--task-file", name, "--resume").code == 2
    assert [event["task_id"] for event in worker.events("task_completed")].count("a") == 1


@pytest.mark.parametrize(
    ("name", "content"), [("no.json", "[]"), ("no.json", ""), ("no.jsonl", "\n"), ("no.yaml", ""), ("no.yaml", "[]")]
)
def test_local_consumer_refuses_a_source_without_tasks_unless_allowed(worker, name: str, content: str) -> None:
    (worker.folder / name).write_text(content)
    finished = worker.run("--task-file", name)
    assert finished.code == 2
    assert f"{name}: no tasks; add --allow-empty to accept that" in finished.log
    assert worker.run("--task-file", name, "--allow-empty").code == 0


def test_local_consumer_refuses_a_generator_without_tasks(worker) -> None:
    assert worker.run(PROGRAM_TASKS="0").code == 2


def test_local_consumer_accepts_a_resumed_file_whose_tasks_are_done(worker) -> None:
    worker.run_tasks({"do": "nothing"})
    assert worker.run("--task-file", str(worker.folder / "tasks.json"), "--resume").code == 0
    assert worker.run("--task-file", str(worker.folder / "tasks.json"), "--tasks-to-skip", "9").code == 0


def test_retry_is_delayed_as_requested_when_the_wall_clock_is_set_back(worker) -> None:
    code = """
import cloud_tasks
real = time.time
def set_clock_back():
    time.sleep(0.5)
    time.time = lambda: real() - 3600
def tasks():
    yield {"id": "task", "data": {}}
    set_clock_back()
def f(task_id, data, worker_data):
    if worker_data.attempt == 1:
        raise cloud_tasks.Retry("busy", after=1)
    return time.monotonic()
"""
    (worker.folder / "program.py").write_text(
        "import sys, time\n" + code + "from cloud_tasks.worker import Worker\nWorker(f, task_source=tasks).run()\n"
    )
    subprocess.run([sys.executable, "program.py"], cwd=worker.folder, env=worker.environment, timeout=30, check=True)
    assert [event["attempt"] for event in worker.events("task_completed")] == [1, 2]
