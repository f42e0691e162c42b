"""Secrets of a worker's backends: the worker reads them, and no task inherits them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from worker_harness import Harness, modes, wait_until

from cloud_tasks.worker.common.secret_variables import take_variables

SECRET = "SEKRET-4711"
PROGRAM = """
import os, pickle, subprocess, sys, time
from pathlib import Path
from cloud_tasks.worker import Worker

FOLDER = Path(os.environ["PROGRAM_FOLDER"])

def seen():
    mine = Path("/proc/self/environ").read_bytes()
    program = subprocess.run(["env"], capture_output=True, check=True).stdout
    assert b"KEY-47" + b"12" not in mine
    workers = [each for each in Path("/proc").glob("[0-9]*/environ") if is_mine(each)]
    return b"SEKRET" in mine + program + b"".join(each.read_bytes() for each in workers) or "SEKRET" in str(os.environ)

def is_mine(path):
    try:
        return os.environ["WORKER_TEST_MARK"].encode() in path.read_bytes() and path.parent.name != str(os.getpid())
    except OSError:
        return False

def f(task_id, data, worker_data):
    if data.get("kill") and not (FOLDER / "parent").exists():
        (FOLDER / "parent").write_text(str(os.getppid()))
        time.sleep(1000)
    if worker_data.secrets:
        os.chdir("/")
        copy = pickle.loads(pickle.dumps(worker_data.secrets))
        (FOLDER / task_id).write_text(str([*worker_data.secrets.items(), copy]))
        subprocess.run('test "$(cat $CLOUD_TASKS_SECRETS_DIR/api.key)" = "KEY"-4712', shell=True, check=True)
    return False, [seen(), os.environ.get("FOLDER_OTHER"), os.environ.get("FOLDER_TOKEN")]

def init(data):
    (FOLDER / "init").write_text(str(seen()))

if __name__ == "__main__":
    Worker(f, args=sys.argv[1:], worker_init=init).run()
    if os.environ.get("FOLDER_TWICE"):
        Worker(f, args=sys.argv[1:], worker_init=init).run()
"""


@pytest.fixture
def environment(worker: Harness) -> dict[str, str]:
    (worker.folder / "token").write_text(SECRET)
    (worker.folder / "program.py").write_text(PROGRAM)
    return worker.environment | {
        "CLOUD_TASKS_PROVIDER": "FOLDER",
        "CLOUD_TASKS_JOB_ID": "job",
        "CLOUD_TASKS_QUEUE_NAME": "job",
        "CLOUD_TASKS_IDLE_LIMIT": "1.5",
        "CLOUD_TASKS_FOLDER_TOKEN": SECRET,
        "FOLDER_OTHER": "kept",
    }


def start(worker: Harness, environment: dict[str, str], *args: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "program.py", *args],
        cwd=worker.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    worker.processes.append(process)
    return process


@modes
@pytest.mark.parametrize("variable", ["CLOUD_TASKS_FOLDER_TOKEN", "RMS_CLOUD_TASKS_FOLDER_TOKEN"])
def test_task_inherits_no_secret_and_every_other_variable(
    worker: Harness, environment: dict[str, str], mode: tuple[str, ...], variable: str
) -> None:
    worker.load({}, {})
    environment[variable] = environment.pop("CLOUD_TASKS_FOLDER_TOKEN")
    (worker.folder / "keys").mkdir()
    (worker.folder / "keys" / "api.key").write_text("KEY-4712")
    (worker.folder / "keys" / ".hidden").write_text("")
    finished = worker.finish(start(worker, environment | {"CLOUD_TASKS_SECRETS_DIR": "keys"}, *mode))
    assert finished.code == 0, finished.log
    events = worker.queued_events("task_completed", "task_failed", "task_exception")
    assert [event.get("result") for event in events] == [[False, "kept", None]] * 2
    assert (worker.folder / "init").read_text() == "False"
    assert "SEKRET" not in finished.log + finished.output + str(worker.queued_events())
    assert "KEY-4712" not in finished.log + finished.output + str(worker.queued_events())
    for event in events:
        assert _text(worker.folder / event["task_id"]) == "[('api.key', 'KEY-4712'), <secrets: api.key>]"


def test_secret_that_was_delivered_in_a_file_is_for_the_supervisors_alone(
    worker: Harness, environment: dict[str, str]
) -> None:
    worker.load({})
    file = worker.folder / "worker.json"
    file.write_text(json.dumps({"CLOUD_TASKS_FOLDER_TOKEN": environment.pop("CLOUD_TASKS_FOLDER_TOKEN")}))
    environment |= {"CLOUD_TASKS_WORKER_SECRETS": str(file), "FOLDER_TWICE": "1"}
    finished = worker.finish(start(worker, environment))
    assert finished.code == 0, finished.log
    assert not file.exists()
    assert [event["result"] for event in worker.queued_events("task_completed")] == [[False, "kept", None]]
    assert len(worker.queued_events("worker_stopped")) == 2


@pytest.mark.parametrize("variable", ["CLOUD_TASKS_SECRETS_DIR", "CLOUD_TASKS_WORKER_SECRETS"])
def test_worker_without_its_secrets_ends_in_one_line(
    worker: Harness, environment: dict[str, str], variable: str
) -> None:
    finished = worker.finish(start(worker, environment | {variable: "missing"}))
    assert finished.code == 2
    assert f"{variable}: cannot read the" in finished.log.splitlines()[-1]
    assert "missing" in finished.log.splitlines()[-1]


def test_task_keeps_a_general_variable_which_its_program_may_need(worker: Harness, environment: dict[str, str]) -> None:
    worker.load({})
    environment["FOLDER_TOKEN"] = environment.pop("CLOUD_TASKS_FOLDER_TOKEN")
    assert worker.finish(start(worker, environment)).code == 0
    assert [event["result"][2] for event in worker.queued_events("task_completed")] == [SECRET]


def test_task_of_a_restarted_fork_server_inherits_no_secret(worker: Harness, environment: dict[str, str]) -> None:
    worker.load({"kill": True})
    process = start(worker, environment)
    wait_until((worker.folder / "parent").exists)
    os.kill(int(_text(worker.folder / "parent")), signal.SIGKILL)
    finished = worker.finish(process)
    (event,) = worker.queued_events("task_completed")
    assert event["result"][0] is False, finished.log


def test_second_worker_of_a_program_gets_the_secret(worker: Harness, environment: dict[str, str]) -> None:
    worker.load({})
    finished = worker.finish(start(worker, environment | {"FOLDER_TWICE": "1"}))
    assert finished.code == 0, finished.log
    assert len(worker.queued_events("worker_stopped")) == 2


def test_wrong_secret_ends_the_worker_without_showing_it(worker: Harness, environment: dict[str, str]) -> None:
    worker.load({})
    finished = worker.finish(start(worker, environment | {"CLOUD_TASKS_FOLDER_TOKEN": "SEKRET-0815"}))
    assert finished.code == 1
    assert "the token is wrong" in finished.log
    assert "SEKRET" not in finished.log + finished.output


def test_shell_command_inherits_no_secret(worker: Harness, environment: dict[str, str]) -> None:
    worker.load({})
    program = "import sys; from cloud_tasks.worker.shell_command import run_command_worker; run_command_worker()"
    command = "{ env; tr '\\0' '\\n' < /proc/self/environ; } > seen"
    (worker.folder / "program.py").write_text(
        program.replace("run_command_worker()", "run_command_worker(sys.argv[1:])")
    )
    finished = worker.finish(start(worker, environment, "--command", command))
    assert finished.code == 0, finished.log
    assert "FOLDER_OTHER=kept" in _text(worker.folder / "seen")
    assert "SEKRET" not in _text(worker.folder / "seen")


def test_take_variables_erases_them_and_nothing_else() -> None:
    program = (
        "import os; from cloud_tasks.worker.common.secret_variables import take_variables\n"
        "print(sorted(take_variables(['A', 'B', 'LONG', 'MISSING']).values()))\n"
        "print([name for name in ('A', 'B', 'LONG') if os.getenv(name)], os.environ['AB'], os.environ['CA'])\n"
        "os.environ['A'] = 'new'; print(os.popen('echo $A$B$AB').read(), end='')\n"
        "print([entry for entry in open('/proc/self/environ').read().split(chr(0)) if entry])"
    )
    environment = {"A": "1", "AB": "kept", "B": "a=b", "LONG": "x" * 9999, "CA": "A=1", "PATH": os.environ["PATH"]}
    ran = subprocess.run(
        [sys.executable, "-I", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    left = [f"{name}={value}" for name, value in environment.items() if name not in ("A", "B", "LONG")]
    expected = [str(["1", "a=b", "x" * 9999]), "[] kept A=1", "newkept", str(left)]
    assert ran.stdout.splitlines() == expected


def test_take_variables_without_any_changes_nothing() -> None:
    before = dict(os.environ)
    assert take_variables(["CLOUD_TASKS_NO_SUCH_TOKEN"]) == {}
    assert dict(os.environ) == before


def _text(path: Path) -> str:
    return wait_until(lambda: path.read_text(), what=str(path))  # type: ignore[no-any-return]
