"""Commands and workers without standard streams, as a daemon or a job of cron may start them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CommandLine
from store_facts import new_store

from cloud_tasks.model import TaskStatus
from cloud_tasks.store import Store

RUN = "from cloud_tasks.cli.main import main; main()"
WORKER = """
import sys
from cloud_tasks.worker import Worker

if __name__ == "__main__":
    Worker(lambda task_id, data, worker_data: 1, args=sys.argv[1:]).run()
"""
CLOSED = [">&-", "2>&-", "<&-", ">&- 2>&- <&-"]
LINES = [
    "report --db-file job.db", "report --db-file job.db -o new.txt", "export tasks --db-file job.db --format jsonl",
    "plugins list", "config show", "plan --provider local --num-tasks 4 --task-time 1",
    "simulate --provider local --num-tasks 4 --task-time 1", "list-instance-types --provider local",
    "show-queue --provider local --job-id job", "init new --provider local -y", "--help",
]  # fmt: skip


def run_in_shell(folder: Path, line: str, *, code: str = RUN) -> subprocess.CompletedProcess[str]:
    start = ["sh", "-c", f"exec '{sys.executable}' -c '{code}' {line}"]
    return subprocess.run(start, capture_output=True, text=True, check=False, timeout=60, cwd=folder)


@pytest.mark.parametrize("arguments", LINES)
def test_command_without_standard_streams_ends_as_with_the_null_device(tmp_path: Path, arguments: str) -> None:
    new_store(tmp_path, ["a"]).close()
    (tmp_path / "tasks.json").write_text('[{"id": "a", "data": {}}]')
    before = (tmp_path / "job.db").read_bytes()
    done = run_in_shell(tmp_path, f"{arguments} >&- 2>&- <&-")
    assert done.returncode == 0
    assert (tmp_path / "job.db").read_bytes() == before


@pytest.mark.parametrize("closed", CLOSED)
def test_closed_standard_streams_get_no_file_and_print_no_traceback(tmp_path: Path, closed: str) -> None:
    new_store(tmp_path, ["a"]).close()
    program = (
        "import os, sys\n"
        "from cloud_tasks.cli.failures import prepare_streams\n"
        "prepare_streams()\n"
        "opened = os.open(sys.argv[1], os.O_RDWR)\n"
        "print(os.path.basename(sys.argv[1]), file=sys.stderr)\n"
        "sys.exit(0 if opened > 2 and None not in (sys.stdin, sys.stdout, sys.stderr) else 9)\n"
    )
    done = run_in_shell(tmp_path, f"job.db {closed}", code=program)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", CLOSED)
def test_run_without_standard_streams_completes_the_job(shell: CommandLine, closed: str) -> None:
    shell.configure(script=f'exec {sys.executable} "$CLOUD_TASKS_SUBMIT_DIR/w.py" {closed}')
    (shell.folder / "w.py").write_text(WORKER)
    (shell.folder / "tasks.json").write_text('[{"id": "a", "data": {}}, {"id": "b", "data": {}}]')
    line = f"cd '{shell.folder}'; exec '{sys.executable}' -c '{RUN}' run -c config.yml --task-file tasks.json {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    with Store.open(shell.folder / "job.db", read_only=True) as store:
        assert store.summary().counts[TaskStatus.COMPLETED] == 2
