"""Tasks that stop or block the processes of their worker: the limits of tasks and of shutdowns hold."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from missing import missing
from worker_harness import MODES, SMALL_PROGRAM, Harness, modes, run_program, wait_until

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.supervisor.execution.forkserver_watch import ForkserverWatch

PROGRAM = """
import ctypes, signal
def parent_of(pid): return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
def f(task_id, data, worker_data):
    forkserver = os.getppid()
    zygote = parent_of(forkserver)
    if task_id == "task-1":
        BODY
    time.sleep(0.1)
    return 7
"""
ENDS = ("task_completed", "task_exited", "task_timed_out", "task_released", "task_dead")
STOP = "os.kill(forkserver, signal.SIGSTOP)"
STOP_BOTH = "os.kill(zygote, signal.SIGSTOP); os.kill(forkserver, signal.SIGSTOP)"
ONCE = "if not os.path.exists('once'): Path('once').touch(); "


def program_of(body: str) -> str:
    return PROGRAM.replace("BODY", body)


def start(worker: Harness, body: str, *args: str, tasks: int = 3, init: str = "") -> subprocess.Popen[str]:
    code = program_of(body)
    if init:
        code += (
            f"def init(worker_data):\n    {init}\nWorker = __import__('functools').partial(Worker, worker_init=init)\n"
        )
    (worker.folder / "program.py").write_text(SMALL_PROGRAM.format(code=code))
    process = subprocess.Popen(
        [sys.executable, "program.py", "--task-file", worker.task_file(*({} for _ in range(tasks))), *args],
        cwd=worker.folder,
        env=worker.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    worker.processes.append(process)
    return process


@modes
@pytest.mark.parametrize("body", [STOP_BOTH, f"{STOP}; os._exit(3)"])
def test_fork_server_that_a_task_stops_is_continued(worker, mode, body) -> None:
    finished = run_program(worker, program_of(body), *mode, tasks=4)
    ends = {event["task_id"]: event["event_type"] for event in worker.events(*ENDS)}
    assert ends.pop("task-1") == ("task_completed" if body == STOP_BOTH else "task_exited")
    assert ends == {f"task-{number}": "task_completed" for number in (0, 2, 3)}, finished.log
    assert "The fork server was stopped by a signal" in finished.log
    assert worker.nothing_is_left()


def test_limit_of_a_task_that_stops_the_fork_server_holds(worker) -> None:
    finished = run_program(worker, program_of(f"{STOP}; time.sleep(1000)"), "--max-runtime", "3", tasks=3)
    ends = {event["task_id"]: event["event_type"] for event in worker.events(*ENDS)}
    assert ends == {"task-0": "task_completed", "task-1": "task_timed_out", "task-2": "task_completed"}, finished.log


def test_task_that_stops_another_one_delays_it_to_its_limit_only(worker) -> None:
    body = "[os.kill(int(pid), signal.SIGSTOP) for pid in Path(f'/proc/{forkserver}/task/{forkserver}/children')"
    body += ".read_text().split() if int(pid) != os.getpid()]"
    options = ("--max-runtime", "3", "--num-simultaneous-tasks", "3")
    finished = run_program(worker, program_of(f"time.sleep(0.05); {body}"), *options, tasks=6)
    ends = {event["task_id"]: event["event_type"] for event in worker.events(*ENDS)}
    assert len(ends) == 6, finished.log
    assert set(ends.values()) <= {"task_completed", "task_timed_out"}
    assert worker.nothing_is_left()


def test_fork_server_that_is_stopped_again_and_again_is_killed(worker) -> None:
    body = "while True: os.kill(forkserver, signal.SIGSTOP)"
    finished = run_program(worker, program_of(body), "--max-losses", "0", "--max-runtime", "40", tasks=3)
    ends = [(event["task_id"], event["event_type"]) for event in worker.events(*ENDS)]
    assert ("task-1", "task_dead") in ends, finished.log
    assert {("task-0", "task_completed"), ("task-2", "task_completed")} <= {*ends}
    assert "The fork server is being kept from running" in finished.log


def test_fork_server_that_a_task_traces_is_killed(worker) -> None:
    body = "ctypes.CDLL(None).ptrace(16, forkserver, 0, 0); Path('traced').touch(); time.sleep(1000)"
    run_program(worker, program_of(f"{ONCE}{body}"), tasks=3)
    if not (worker.folder / "traced").exists():
        missing("tracing is not permitted here", how="run the tests where ptrace is, or as root")
    assert {event["task_id"] for event in worker.events("task_completed")} == {"task-0", "task-1", "task-2"}


@pytest.mark.parametrize("mode", [MODES["fork"], MODES["reuse spawn"]], ids=["fork", "reuse spawn"])
def test_grace_period_holds_with_a_stopped_fork_server(worker, mode) -> None:
    body = f"{STOP}; Path('waiting').touch(); time.sleep(1000)"
    process = start(worker, body, *mode, "--shutdown-grace-period", "1")
    wait_until((worker.folder / "waiting").exists)
    process.send_signal(signal.SIGTERM)
    assert worker.finish(process).code == 143
    assert [event["task_id"] for event in worker.events("task_released")] == ["task-1"]
    assert worker.nothing_is_left()


@pytest.mark.parametrize("stop", [STOP, STOP_BOTH])
def test_killed_supervisor_leaves_no_stopped_process(worker, stop) -> None:
    process = start(worker, f"{stop}; Path('waiting').touch(); time.sleep(1000)")
    wait_until((worker.folder / "waiting").exists)
    process.kill()
    wait_until(worker.nothing_is_left, what="the end of all processes")


@pytest.mark.parametrize(
    "init", ["time.sleep(1000)", "os.kill(os.getpid(), 19); Path('waiting').touch(); time.sleep(1000)"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_init_at_work_is_ended_with_the_worker(worker, init, number) -> None:
    process = start(worker, "pass", "--shutdown-grace-period", "3", init=f"Path('waiting').touch(); {init}")
    wait_until((worker.folder / "waiting").exists)
    process.send_signal(number)
    process.wait(30)
    finished = worker.finish(process)
    assert finished.code == 128 + number
    assert "Traceback" not in finished.log
    assert worker.nothing_is_left()


def test_worker_init_that_stops_itself_is_continued(worker) -> None:
    process = start(worker, "pass", init="os.kill(os.getpid(), 19)")
    assert worker.finish(process).code == 0
    assert len(worker.events("task_completed")) == 3


def sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"])


def test_watch_kills_a_fork_server_that_does_not_answer() -> None:
    process, pings, problems = sleeping(), [0], list[str]()

    def ping() -> None:
        pings[0] += 1

    watch = ForkserverWatch(ping, problems.append)
    watch.start(0, process.pid)
    for _ in range(40):
        watch.check()
    # worker_init may take as long as it likes.
    assert (pings[0], problems) == (0, [])
    watch.answered()
    for _ in range(20):
        watch.check()
    watch.answered()
    for _ in range(30):
        watch.check()
    assert (pings[0], problems, process.poll()) == (50, [], None)
    watch.check()
    assert problems == ["The fork server does not answer; it will be killed"]
    assert process.wait() == -signal.SIGKILL


def test_watch_continues_what_is_stopped_and_kills_what_stays_so() -> None:
    process, problems = sleeping(), list[str]()
    watch = ForkserverWatch(lambda: None, problems.append)
    watch.start(process.pid, 0)
    for _ in range(5):
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: process_tree.is_stopped(process.pid))
        watch.check()
        wait_until(lambda: not process_tree.is_stopped(process.pid))
    assert len(problems) == 1
    watch.check()
    for _ in range(6):
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: process_tree.is_stopped(process.pid))
        assert process.poll() is None
        watch.check()
    assert problems[1:] == ["The zygote is being kept from running; it will be killed"]
    assert process.wait() == -signal.SIGKILL
    assert not process_tree.is_stopped(process.pid)
