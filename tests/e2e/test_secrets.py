"""Secrets of a job: its tasks read them, and no value is in a file, a log, an argument or a variable."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import Any

PROGRAM = """
import hashlib, os, sys, time
from pathlib import Path
from cloud_tasks.worker import Worker

FOLDER = Path(os.environ["CLOUD_TASKS_SECRETS_DIR"])
assert (FOLDER / "token").stat().st_mode & 0o777 == 0o600, "for the import before the run, too"
assert FOLDER.stat().st_mode & 0o777 == 0o700

def f(task_id, data, worker_data):
    Path(f"ready-{task_id}").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    assert (FOLDER / "key.pem").read_bytes() == worker_data.secrets["key.pem"].encode()
    return False, [hashlib.sha256(worker_data.secrets[name].encode()).hexdigest() for name in worker_data.secrets]

if __name__ == "__main__":
    Worker(f).run()
"""
KEY, LATER, TOKEN = "SEKRET-KEY-4711\n", "SEKRET-KEY-4712\n", "SEKRET-TOKEN-4711"


def _files_with_a_value(folder: Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and any(text in path.read_bytes() for text in (b"SEKRET-KEY", b"SEKRET-TOKEN")):
            found.append(str(path.relative_to(folder)))
    return sorted(found)


def _processes_with_a_value(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        for name in ("environ", "cmdline"):
            try:
                content = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            if b"SEKRET" in content:
                found.append(pid)
    return found


def test_secrets_reach_the_tasks_alone_also_after_the_controller_was_killed(desk: Any, eventually: Any) -> None:
    (desk.folder / "show.py").write_text(PROGRAM)
    (desk.folder / "key").write_text(KEY)
    setup = 'test -s "$CLOUD_TASKS_SECRETS_DIR/token" && touch set-up; ! env | grep SEKRET\n'
    secrets = {"token": "env:TOKEN", "key.pem": "file:key"}
    desk.configure(startup_script=None, program="show.py", setup=setup, secrets=secrets, max_runtime=600)
    desk.tasks(2)
    arguments = ("run", "--config", "config.yml")
    refused = desk.run(*arguments, "--task-file", "tasks.json")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        "Error: config.yml:1: run.secrets.token: the variable TOKEN is not set; set it before the run, and before each "
        "--continue"
    )
    assert not (desk.folder / "addition.db").exists()
    folder = desk.folder / ".cloud-tasks" / "addition" / "secrets"
    own = [".cloud-tasks/addition/secrets/key.pem", ".cloud-tasks/addition/secrets/token"]
    log = desk.folder / "log"
    process = desk.begin(*arguments, "--task-file", "tasks.json", env={"TOKEN": TOKEN}, out=log, errors=log)
    eventually(lambda: list(desk.folder.glob("ready-*")))
    assert (desk.folder / "set-up").exists()
    assert _files_with_a_value(desk.folder) == [*own, "key"]
    assert len(pids := [pid for pid in desk.processes() if pid != process.pid]) > 2
    assert _processes_with_a_value(pids) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.exists()
    (desk.folder / "key").write_text(LATER)
    resumed = desk.begin(*arguments, "--continue", env={"TOKEN": TOKEN}, out=log, errors=log)
    eventually(lambda: (folder / "key.pem").read_text() == LATER)
    (desk.folder / "go").touch()
    assert resumed.wait() == 0, log.read_text()
    exported = desk.run("export", "tasks", "--db-file", "addition.db", "--format", "jsonl")
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (LATER, TOKEN)]
    assert exported.stdout.count(digests[0]) == exported.stdout.count(digests[1]) == 2, exported.stdout
    assert not folder.exists()
    assert _files_with_a_value(desk.folder) == ["key"]
