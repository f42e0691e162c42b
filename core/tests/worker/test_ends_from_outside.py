"""Outcomes of tasks whose process was ended by a signal."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from worker_harness import modes, run_program, wait_until

from cloud_tasks import exit_codes
from cloud_tasks.worker.supervisor.execution.outcome import OutcomeKind, read_outcome

FINAL = ("task_completed", "task_exception", "task_exited", "task_dead")


@pytest.mark.parametrize("status", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, 1 << 8])
def test_read_outcome_reports_signals_and_codes_as_exited(status: int) -> None:
    assert read_outcome(status=status, content=b"", cause="").kind is OutcomeKind.EXITED


def test_read_outcome_reports_a_task_over_its_time_limit_as_timed_out() -> None:
    assert read_outcome(status=signal.SIGTERM, content=b"", cause="timeout", limit=1.0).kind is OutcomeKind.TIMED_OUT


REACTIONS = ("sys.exit(0)", "sys.exit(7)", "raise RuntimeError", "raise KeyboardInterrupt", "os._exit(5)", "return")


@modes
def test_task_over_its_time_limit_has_timed_out_however_it_reacts(worker, mode) -> None:
    reactions = "".join(f"    if task_id == 'task-{index}': {each}\n" for index, each in enumerate(REACTIONS))
    code = f"""
import signal
def f(task_id, data, worker_data):
    def react(number, frame):
{reactions.replace("    if", "        if")}
    signal.signal(signal.SIGTERM, react)
    time.sleep(60)
def g(task_id, data, worker_data):
    class Ended(BaseException): pass
    def react(number, frame): raise Ended
    signal.signal(signal.SIGTERM, react)
    try: time.sleep(60)
    except Ended: return "late"
f = (lambda f: lambda *arguments: (g if arguments[0] == "task-6" else f)(*arguments))(f)
"""
    rules = '[{"on": "timeout", "attempts": 2}]'
    options = (*mode, "--max-runtime", "1.5", "--retry-rules", rules, "--backoff-base", "0.1")
    run_program(worker, code, *options, "--num-simultaneous-tasks", "7", tasks=7)
    ends = sorted((event["task_id"], event["event_type"]) for event in worker.events(*FINAL, "task_timed_out"))
    each = ("task_dead", "task_timed_out", "task_timed_out")
    expected = [(f"task-{index}", kind) for index in range(len(REACTIONS)) for kind in each]
    assert ends == [*expected, ("task-6", "task_completed")]


def test_failure_before_the_time_limit_stays_one_while_threads_run_on(worker) -> None:
    code = """
def f(task_id, data, worker_data):
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise ValueError("before")
"""
    run_program(worker, code, "--max-runtime", "2")
    assert [event["event_type"] for event in worker.events(*FINAL, "task_timed_out")] == ["task_exception"]


@pytest.mark.parametrize("command", ["trap 'exit 0' TERM; sleep 60 & wait", "exec sleep 60", "trap '' TERM; sleep 60"])
def test_command_over_its_time_limit_has_timed_out(worker, command) -> None:
    program = str(Path(sys.executable).with_name("cloud-tasks"))
    arguments = [program, "worker", "--command", command, "--param", "n=1", "--max-runtime", "1"]
    subprocess.run(arguments, cwd=worker.folder, env=worker.environment, check=False, capture_output=True, timeout=60)
    (event,) = worker.events(*FINAL, "task_timed_out")
    assert event["event_type"] == "task_timed_out"


SELF = ("os.kill(os.getpid(), 15)", "os.killpg(0, 15)", "subprocess.run(['sh', '-c', 'kill -TERM $PPID'])")


@modes
@pytest.mark.parametrize("end", SELF)
def test_task_that_terminates_itself_has_exited(worker, mode, end) -> None:
    code = f"""
import subprocess
def f(task_id, data, worker_data):
    {end}
    time.sleep(60)
"""
    args = ("--retry-rules", '[{"on": "exit", "codes": [143], "attempts": 2}]', "--backoff-base", "0.1")
    finished = run_program(worker, code, *mode, *args)
    assert finished.code == exit_codes.TASKS_FAILED, finished.log
    found = [(event["event_type"], event.get("attempt"), event.get("signal")) for event in worker.events(*FINAL)]
    assert found == [("task_exited", 1, "SIGTERM"), ("task_exited", 2, "SIGTERM"), ("task_dead", 2, None)]


def test_command_that_terminates_itself_has_exited(worker) -> None:
    command = [Path(sys.executable).with_name("cloud-tasks"), "worker", "--command", "kill -TERM $$", "--param", "n=1"]
    finished = subprocess.run(
        command, cwd=worker.folder, env=worker.environment, check=False, capture_output=True, timeout=60
    )
    assert finished.returncode == exit_codes.TASKS_FAILED, finished.stderr
    (event,) = worker.events(*FINAL)
    assert (event["event_type"], event["signal"]) == ("task_exited", "SIGTERM")


def test_slot_is_free_while_the_cause_of_an_end_is_unknown(worker) -> None:
    finished = worker.run_tasks({"do": "terminate"}, *({"do": "nothing"} for _ in range(5)))
    assert finished.code == exit_codes.TASKS_FAILED, finished.log
    order = [event["task_id"] for event in worker.events("task_completed", "task_exited")]
    assert order == [*(f"task-{n}" for n in range(1, 6)), "task-0"]


@pytest.mark.parametrize("mode", [(), ("--reuse-processes", "10")], ids=["fork", "reuse"])
def test_task_that_ends_with_its_instance_is_released(worker, mode) -> None:
    process = worker.start("--task-file", worker.task_file({"do": "wait"}, {"do": "nothing"}), *mode)
    wait_until(lambda: worker.noted("waiting"))
    os.kill(int(worker.noted("waiting")[0]), signal.SIGTERM)
    wait_until(lambda: worker.events("task_completed"), what="the end of the task before its worker knows")
    process.send_signal(signal.SIGTERM)
    assert worker.finish(process).code == 143
    assert [event["task_id"] for event in worker.events("task_released")] == ["task-0"]
    assert not worker.events("task_exited")


def test_task_that_kills_the_fork_server_is_delayed_and_then_dead(worker) -> None:
    code = """
def f(task_id, data, worker_data):
    os.kill(os.getppid(), 9)
    time.sleep(60)
"""
    run_program(worker, code, "--max-losses", "3", "--backoff-base", "0.4")
    assert [event["event_type"] for event in worker.events(*FINAL, "task_released")] == [
        *["task_released"] * 4,
        "task_dead",
    ]
    times = [datetime.fromisoformat(event["timestamp"]).timestamp() for event in worker.events("task_released")]
    delays = [after - before for before, after in itertools.pairwise(times)]
    assert all(delay >= least for delay, least in zip(delays, (0.2, 0.4, 0.8), strict=True)), delays
