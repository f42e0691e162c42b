"""Failures of the worker's own means: full disks, no processes, no descriptors. None of them ends a task."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_disk import fill, small_disk
from worker_harness import PROGRAM, Harness, wait_until

from cloud_tasks.worker.common.os_errors import full_folder, mark_own_failure, os_error_text
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.shell_command import ShellCommand
from cloud_tasks.worker.supervisor.execution import outcome as outcome_module
from cloud_tasks.worker.supervisor.execution.circuit_breaker import CircuitBreaker
from cloud_tasks.worker.supervisor.execution.outcome import OutcomeKind, read_outcome
from cloud_tasks.worker.task_process.exception_report import failure
from cloud_tasks.worker.task_process.report_format import encode_report

NO_FORK = """
import os, sys
fork = os.fork
def failing():
    if "FORKS" in os.environ and sys._getframe(1).f_code.co_name == "fork":
        raise BlockingIOError(11, os.strerror(11))
    os.environ["FORKS"] = "some"
    return fork()
os.fork = failing
"""
"""Fork fails where the fork server forks task processes."""
ENDS = ("task_completed", "task_exception", "task_exited", "task_timed_out", "task_dead")
FAST = {"CLOUD_TASKS_BACKOFF_CAP": "0.1"}
NO_SPACE = "No space left on device (ENOSPC)"


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as path:
        yield path


def released(worker: Harness) -> list[str]:
    return [event["cause"] for event in worker.events("task_released")]


def test_worker_with_a_full_log_folder_gives_its_tasks_back_and_stops_until_there_is_room(worker, disk) -> None:
    filler = fill(disk)
    arguments = ("--task-log-dir", str(disk), "--num-simultaneous-tasks", "2")
    tasks = [{"do": "say"} for _ in range(12)]
    finished = worker.run_tasks(*tasks, args=arguments)
    assert finished.code == 1, finished.log
    assert worker.events(*ENDS) == []
    assert {cause.partition(": ")[2] for cause in released(worker)} == {NO_SPACE}
    assert 10 <= len(worker.events("task_started")) <= 20
    (fatal,) = worker.events("fatal_exception")
    assert "failed 10 times in a row" in fatal["exception"]
    assert NO_SPACE in fatal["exception"]
    assert f"Fatal: {fatal['exception']}" in finished.log

    filler.unlink()
    finished = worker.run_tasks(*tasks, args=(*arguments, "--resume"))
    assert finished.code == 0, finished.log
    assert len({event["task_id"] for event in worker.events("task_completed")}) == 12


def test_worker_with_a_full_log_folder_costs_the_job_no_task(worker, disk) -> None:
    fill(disk)
    worker.load(*[{"do": "say"}] * 400)
    # No idle limit that load could exceed: the broken worker holds tasks for as long as it takes to fail.
    options = FAST | {"CLOUD_TASKS_IDLE_LIMIT": "120", "CLOUD_TASKS_NUM_TASKS_PER_INSTANCE": "2"}
    broken = worker.start_on_queue("--task-log-dir", str(disk), **options)
    wait_until(lambda: worker.queued_events("task_released"), what="the first task that is given back")
    working = worker.start_on_queue("--task-log-dir", str(worker.folder / "logs"), **options)
    wait_until(lambda: len(worker.queued_events("task_completed")) >= 400, what="the last task")
    for each in (broken, working):
        each.send_signal(signal.SIGTERM)
        worker.finish(each)
    completed = [event["task_id"] for event in worker.queued_events("task_completed")]
    assert len(completed) == len(set(completed)) == 400
    assert worker.queued_events("task_exited", "task_exception", "task_dead") == []
    assert all(NO_SPACE in event["cause"] for event in worker.queued_events("task_released"))


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "5")])
def test_worker_with_a_full_tmpdir_gives_its_tasks_back(worker, disk, options) -> None:
    fill(disk)
    finished = worker.run_tasks(*[{"do": "say"}] * 3, args=("--capture-output", *options), TMPDIR=str(disk))
    assert finished.code == 1, finished.log
    assert worker.events(*ENDS) == []
    assert NO_SPACE in worker.events("fatal_exception")[0]["exception"]


def test_worker_takes_an_exit_without_room_on_its_disk_for_an_interruption(worker, disk) -> None:
    fill(disk)
    actions = ({"do": "exit", "code": 3}, {"do": "sys.exit", "code": "no"}, {"do": "scratch"})
    finished = worker.run_tasks(*actions, TMPDIR=str(disk), **FAST)
    assert finished.code == 1, finished.log
    assert worker.events(*ENDS) == []
    assert all(NO_SPACE in cause for cause in released(worker))


def test_worker_reports_an_exception_whose_traceback_cannot_be_printed(worker, disk) -> None:
    fill(disk)
    worker.run_tasks(*[{"do": "raise", "message": "seventeen"}] * 25, args=("--task-log-dir", str(disk)))
    found = worker.events(*ENDS)
    assert [(event["exception_type"], event["exception"]) for event in found] == [("ValueError", "seventeen")] * 25
    assert all("seventeen" in event["stack_trace"] for event in found)


def test_worker_with_a_full_standard_output_stops(worker) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(PROGRAM), "--task-file", worker.task_file({"do": "say"}, {"do": "say"})]
        code = subprocess.run(command, cwd=worker.folder, env=worker.environment, stdout=full, stderr=full).returncode
    assert code == 1
    assert {event["event_type"] for event in worker.events(*ENDS)} == set()
    assert set(released(worker)) == {f"cannot write the output of the task: {NO_SPACE}"}


def test_worker_with_a_closed_standard_output_stops(worker) -> None:
    process = worker.start("--task-file", worker.task_file({"do": "say"}, {"do": "say"}), **FAST)
    process.stdout.close()
    process.stdout = None
    assert worker.finish(process).code == 1
    assert worker.events(*ENDS) == []
    assert set(released(worker)) == {"cannot write the output of the task: Broken pipe (EPIPE)"}


def test_task_that_breaks_its_own_output_fails(worker) -> None:
    worker.run_tasks({"do": "full output"}, {"do": "nothing"}, args=("--max-losses", "2"), **FAST)
    failed, completed = sorted(worker.events(*ENDS), key=lambda event: event["task_id"])
    assert (failed["event_type"], failed["exception"]) == ("task_exception", "[Errno 28] No space left on device")
    assert completed["event_type"] == "task_completed"
    assert released(worker) == []
    assert worker.events("fatal_exception") == []


def test_failure_survives_exceptions_whose_attributes_raise(capsys) -> None:
    class HostileError(OSError):
        @property
        def errno(self) -> Any:  # type: ignore[override]
            raise RuntimeError("no errno")

    assert head_of(HostileError("own"))["error"] == "HostileError"
    unhashable = OSError("own")
    unhashable.errno = []  # type: ignore[assignment]
    assert head_of(unhashable)["error"] == "OSError"


def test_worker_reports_a_full_disk_of_the_task_as_the_task_s_own_failure(worker) -> None:
    worker.run_tasks({"do": "write", "path": "/dev/full"})
    (event,) = worker.events(*ENDS)
    assert (event["event_type"], event["exception_type"]) == ("task_exception", "OSError")
    assert "No space left" in event["exception"]


def test_worker_without_a_scratch_folder_gives_the_task_back(worker) -> None:
    finished = worker.run_tasks({"do": "scratch"}, {"do": "scratch"}, TMPDIR="/proc/nowhere", **FAST)
    assert finished.code == 1
    assert worker.events(*ENDS) == []
    assert all(cause.startswith("cannot create the scratch folder: ") for cause in released(worker))


def test_worker_runs_every_task_of_a_program_that_fails_all_of_them_at_once(worker) -> None:
    worker.run_tasks(*[{"do": "raise"}] * 25, *[{"do": "exit", "code": 3}] * 25, *[{"do": "crash"}] * 25)
    assert len(worker.events("task_exception", "task_exited")) == 75
    assert worker.events("task_released", "fatal_exception") == []


@pytest.mark.parametrize("options", [(), ("--reuse-processes", "3"), ("--start-method", "spawn")])
def test_worker_with_too_few_descriptors_loses_no_task(worker, options) -> None:
    path = worker.task_file(*[{"do": "sleep", "seconds": 0.05}] * 40)
    command = [sys.executable, str(PROGRAM), "--task-file", path, "--num-simultaneous-tasks", "30", *options]
    limit = (24, 24)
    process = subprocess.Popen(
        command,
        cwd=worker.folder,
        env=worker.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
    )
    worker.processes.append(process)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "Too many open files (EMFILE)" in log
    assert worker.events("task_dead", "task_exited", "task_exception", "fatal_exception") == []
    assert len(worker.events("task_completed")) == 40
    # Only a process that has been started can fail to execute the program again.
    assert "spawn" in options or worker.events("task_released") == []
    assert len(worker.events("non_fatal_exception")) <= 3


def test_worker_that_cannot_start_a_process_gives_its_tasks_back_and_stops(worker) -> None:
    worker.load(*[{"do": "nothing"}] * 5)
    (worker.folder / "site" / "sitecustomize.py").write_text(NO_FORK)
    finished = worker.run_on_queue(CLOUD_TASKS_NUM_TASKS_PER_INSTANCE="2")
    assert finished.code == 1, finished.log
    reason = "cannot start the process of a task: Resource temporarily unavailable (EAGAIN)"
    assert reason in worker.queued_events("fatal_exception")[0]["exception"]
    assert worker.queued_events(*ENDS, "task_released", "task_started") == []
    (worker.folder / "site" / "sitecustomize.py").unlink()
    assert worker.run_on_queue().code == 0
    assert len(worker.queued_events("task_completed")) == 5


def test_worker_whose_program_cannot_run_again_gives_its_tasks_back(worker) -> None:
    path = worker.task_file({"do": "nothing"}, {"do": "exit", "code": 3}, {"do": "sys.exit", "code": 0})
    (worker.folder / "site" / "sitecustomize.py").write_text(
        "import os\nif 'CLOUD_TASKS_SPAWNED' in os.environ:\n    os._exit(3)\n"
    )
    finished = worker.run("--task-file", path, "--start-method", "spawn", **FAST)
    assert finished.code == 1, finished.log
    assert worker.events(*ENDS) == []
    assert "cannot run the program again: " in released(worker)[0]
    (worker.folder / "site" / "sitecustomize.py").unlink()
    worker.run("--task-file", path, "--start-method", "spawn", "--resume", **FAST)
    assert [event["event_type"] for event in worker.events(*ENDS)].count("task_exited") == 2
    assert len(worker.events("task_completed")) == 1


def test_worker_reports_a_log_folder_that_cannot_be_created_as_bad_input(worker) -> None:
    finished = worker.run_tasks({"do": "nothing"}, args=("--task-log-dir", "/proc/nowhere/logs"))
    assert finished.code == 2
    assert finished.log.startswith(
        "error: --task-log-dir: cannot create the folder: No such file or directory (ENOENT)"
    )


def test_worker_takes_output_that_the_task_itself_has_broken_for_the_task_s_own(worker) -> None:
    worker.run_tasks({"do": "close output"}, {"do": "replace output"}, {"do": "no output"})
    assert sorted(event["exception"] for event in worker.events("task_exception")) == [
        "closed",
        "no output",
        "replaced",
    ]


def test_command_worker_without_a_shell_gives_the_task_back(monkeypatch, tmp_path) -> None:
    def no_process(*args: Any, **others: Any) -> Any:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("cloud_tasks.worker.shell_command.subprocess.run", no_process)
    data = WorkerData()
    data._scratch = str(tmp_path)
    with pytest.raises(OSError, match="temporarily unavailable") as raised:
        ShellCommand("true", shell="/bin/sh")("task", {}, data)
    assert failure(raised.value)["own_failure"] == ("cannot start the shell: Resource temporarily unavailable (EAGAIN)")


# -- the parts


def head_of(error: BaseException) -> dict[str, Any]:
    try:
        raise error
    except BaseException as raised:
        return failure(raised)


def test_failure_of_our_own_means_is_found_in_causes_and_groups(capsys) -> None:
    marked = OSError(errno.EACCES, "Permission denied", "/scratch")
    mark_own_failure(marked, "cannot create the scratch folder")
    expected = "cannot create the scratch folder: Permission denied (EACCES): /scratch"
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = marked
    for error in (marked, wrapped, ExceptionGroup("two", [ValueError("other"), wrapped])):
        assert head_of(error)["own_failure"] == expected
    assert "own_failure" not in head_of(OSError(errno.ENOSPC, "No space left on device"))
    assert head_of(OSError(errno.ENOSPC, "No space left on device"))["errno"] == errno.ENOSPC
    assert "errno" not in head_of(ValueError("own"))


def test_failure_ends_with_a_chain_that_refers_to_itself(capsys) -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert head_of(first)["error"] == "ValueError"


def grouped() -> BaseException:
    return ExceptionGroup("many", [ValueError(str(number)) for number in range(100_000)])


def chained() -> BaseException:
    last: BaseException = ValueError("first")
    for number in range(100_000):
        following = ValueError(str(number))
        following.__context__ = last
        last = following
    return last


@pytest.mark.parametrize(("make", "message"), [(grouped, "many (100000 sub-exceptions)"), (chained, "99999")])
def test_failure_of_many_exceptions_has_the_traceback_of_the_first_only(capsys, make, message) -> None:
    try:
        raise make()
    except BaseException as error:
        head = failure(error)
    assert head["message"] == message
    assert head["trace"].startswith("Traceback (most recent call last):")
    assert head["trace"].endswith(f"{message}\n(200 or more other exceptions are left out)\n")
    assert head["trace"].count("\n") < 10


def test_outcome_of_an_own_failure_is_an_interruption() -> None:
    head = {"error": "OSError", "message": "x", "own_failure": "cannot report the result: y"}
    outcome = read_outcome(status=0, content=encode_report(head, b""), cause="")
    assert (outcome.kind, outcome.own_failure) == (OutcomeKind.LOST, True)
    assert outcome.details["cause"] == "cannot report the result: y"


@pytest.mark.parametrize(("code", "kind"), [(1, OutcomeKind.LOST), (0, OutcomeKind.EXITED)])
def test_read_outcome_takes_sys_exit_with_an_error_code_for_an_interruption_without_room(
    monkeypatch, code, kind
) -> None:
    monkeypatch.setattr(outcome_module, "full_folder", lambda folders: NO_SPACE)
    content = encode_report({"exited": True, "exit_code": code}, b"")
    outcome = read_outcome(status=0, content=content, cause="", folders=("/tmp",))
    assert outcome.kind is kind


def test_full_folder_looks_at_the_nearest_folder_that_exists(tmp_path) -> None:
    assert full_folder([str(tmp_path), str(tmp_path / "not" / "yet")]) == ""
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        assert full_folder([str(tmp_path), str(disk / "later" / "logs")]) == f"{NO_SPACE}: {disk}/later/logs"


def test_os_error_text_has_the_system_s_words_and_the_path() -> None:
    assert os_error_text(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))) == (
        "Resource temporarily unavailable (EAGAIN)"
    )
    assert os_error_text(FileNotFoundError(errno.ENOENT, "No such file", b"/a")) == "No such file (ENOENT): /a"
    assert os_error_text(OSError("a text")) == "OSError: a text"


def test_circuit_breaker_opens_after_ten_failures_in_a_row_each_after_a_longer_pause() -> None:
    now = 100.0
    breaker = CircuitBreaker(lambda: now)
    pauses: list[float] = []
    while not breaker.is_open:
        assert breaker.failed("no room") == (not pauses)
        assert not breaker.failed("no room"), "a failure at the same time is the same failure"
        pauses.append(breaker.resume_at - now)
        now = breaker.resume_at
    assert len(pauses) == 10
    assert pauses == sorted(pauses)
    assert sum(pauses) < 20


def test_circuit_breaker_is_closed_by_a_task_that_ran() -> None:
    now = 100.0
    breaker = CircuitBreaker(lambda: now)
    for _ in range(50):
        for _ in range(9):
            breaker.failed("no room")
            now = breaker.resume_at
        breaker.succeeded()
        assert not breaker.is_open
    for _ in range(50):
        breaker.failed("no room", task_id="one")
        now = breaker.resume_at
    assert not breaker.is_open, "it may be the task"
    breaker.succeeded()
    for _ in range(50):
        breaker.failed("no processes", counts=False)
        assert breaker.resume_at > now
        now = breaker.resume_at
    assert not breaker.is_open
