"""The command line as real processes in a temporary folder, all of which are ended after the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from job_folder import JobFolder, processes_in


class Desk(JobFolder):
    """A folder with the example's programs, in which the command line runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})

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
        return self.write_config({"provider": "local", "run": present})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `cloud-tasks` without waiting."""
        return self.begin(*arguments)

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
        super().close()
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
