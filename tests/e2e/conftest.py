"""The command line as real processes in a temporary folder, all of which are ended after the test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "parallel_addition"
PROGRAM = Path(sys.executable).with_name("cloud-tasks")


def processes_in(folder: Path) -> list[int]:
    """Return the processes whose working directory is in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            directory = Path(os.readlink(entry / "cwd").removesuffix(" (deleted)"))
        except OSError:
            continue
        if directory.is_relative_to(folder) and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


class Desk:
    """A folder with the example's programs, in which the command line runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self._started: list[subprocess.Popen[str]] = []
        for program in EXAMPLE.glob("worker_*.py"):
            shutil.copy(program, folder)

    def configure(self, *, worker: str = "worker_addition.py", environment: str = "", **run: object) -> Path:
        """Write `config.yml` for the local provider; ``run`` adds or replaces keys (None removes one)."""
        settings: dict[str, object] = {
            "job_id": "addition",
            "max_cpu": 2,
            "max_instances": 1,
            "scaling_check_interval": 1,
            "instance_termination_delay": 0,
            "max_runtime": 30,
            "startup_script": (
                f'export ADDITION_OUTPUT_DIR="$CLOUD_TASKS_SUBMIT_DIR/results"\n{environment}\n'
                f'exec python3 "$CLOUD_TASKS_SUBMIT_DIR/{worker}"\n'
            ),
            **run,
        }
        present = {key: value for key, value in settings.items() if value is not None}
        file = self.folder / "config.yml"
        # JSON is YAML.
        file.write_text(json.dumps({"provider": "local", "run": present}))
        return file

    def tasks(self, count: int) -> Path:
        """Write `tasks.json`; task n adds n and 1."""
        numbers = range(1, count + 1)
        content = [{"id": f"task-{number:05d}", "data": {"num1": number, "num2": 1}} for number in numbers]
        file = self.folder / "tasks.json"
        file.write_text(json.dumps(content))
        return file

    def sums(self) -> dict[str, int]:
        """Return the results by task."""
        return {file.stem: int(file.read_text()) for file in self.results.glob("*.txt")}

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `cloud-tasks` and wait for its exit."""
        process = self.start(*arguments, env=env)
        output, errors = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `cloud-tasks` without waiting."""
        process = subprocess.Popen(
            [str(PROGRAM), *arguments],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def status(self, database: str = "addition.db") -> dict[str, Any]:
        """Return the output of `cloud-tasks status --json`."""
        answer = self.run("status", "--db-file", database, "--json")
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def processes(self) -> list[int]:
        """Return the processes in the folder."""
        return processes_in(self.folder)

    def left_behind(self) -> list[str]:
        """Return the files in the folder except inputs, programs and Python's caches."""
        return sorted(
            entry.name
            for entry in self.folder.iterdir()
            if entry.suffix not in (".py", ".yml", ".yaml", ".json", ".jsonl") and entry.name != "__pycache__"
        )

    def close(self) -> None:
        """End all processes."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        deadline = time.monotonic() + 20
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes still running: {left}"
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def eventually() -> Eventually:
    """Return a function that waits for a condition."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 90.0
        while not condition():
            assert time.monotonic() < deadline, "condition not met within 90 s"
            time.sleep(0.02)

    return wait


RunProgram = Callable[[Sequence[str], dict[str, str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def python(tmp_path: Path) -> RunProgram:
    """Run a Python program in the test's folder."""

    def run(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
