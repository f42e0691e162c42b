"""Working directory for job tests: the example's programs, and the command line run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

__all__ = ["EXAMPLE", "JobFolder", "LoggingJobFolder", "processes_in"]

EXAMPLE = Path(__file__).parents[3] / "examples" / "parallel_addition"
_PROGRAM = Path(sys.executable).with_name("cloud-tasks")


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


class JobFolder:
    """Working directory and environment of the command line; each provider derives its own configuration.

    Args:
        folder: Working directory, created if missing.
        environment: Variables of the command line, in addition to those of this process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.environment = dict(environment)
        self.program = _PROGRAM
        """The program ``cloud-tasks``."""
        self._started: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        for program in EXAMPLE.glob("worker_*.py"):
            shutil.copy(program, folder)

    def write_config(self, sections: Mapping[str, Any]) -> Path:
        """Write `config.yml`."""
        file = self.folder / "config.yml"
        # JSON is YAML.
        file.write_text(json.dumps(sections))
        return file

    def startup_script(self, worker: str, *arguments: str, environment: str = "") -> str:
        """Return a startup script that only starts one of the example's programs; ``environment``: shell lines before
        it."""
        command = " ".join([f'python3 "{self.folder / worker}"', *arguments])
        return f'export ADDITION_OUTPUT_DIR="{self.results}"\n{environment}\nexec {command}\n'

    def tasks(self, count: int) -> Path:
        """Write `tasks.json`; task n adds n and 1."""
        numbers = range(1, count + 1)
        content = [{"id": f"task-{number:05d}", "data": {"num1": number, "num2": 1}} for number in numbers]
        file = self.folder / "tasks.json"
        file.write_text(json.dumps(content))
        return file

    def begin(
        self,
        *arguments: str,
        out: Path | None = None,
        errors: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start `cloud-tasks` without waiting.

        Args:
            out: File that stdout is appended to; None for a pipe.
            errors: File that stderr is appended to; None for a pipe.
            env: Further variables.
        """
        with ExitStack() as stack:
            streams = [
                subprocess.PIPE if file is None else stack.enter_context(file.open("a")) for file in (out, errors)
            ]
            process = subprocess.Popen(
                [str(self.program), *arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=streams[0],
                stderr=streams[1],
                text=True,
            )
        self._started.append(process)
        return process

    def run(
        self, *arguments: str, timeout: float = 240.0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `cloud-tasks` and wait for its exit."""
        process = self.begin(*arguments, env=env)
        output, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def status(self, job_id: str = "addition") -> dict[str, Any]:
        """Return the output of `cloud-tasks status --json`."""
        answer = self.run("status", "--db-file", f"{job_id}.db", "--json")
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def sums(self) -> dict[str, int]:
        """Return the results by task."""
        return {file.stem: int(file.read_text()) for file in self.results.glob("*.txt")}

    def result_count(self) -> int:
        """Return the number of results, incomplete ones included."""
        return sum(1 for _ in self.results.glob("*.txt"))

    def close(self) -> None:
        """Kill the started processes."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


class LoggingJobFolder(JobFolder):
    """Working directory whose jobs log to `out.log` and `err.log`, so that no pipe has to be read."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `cloud-tasks` without waiting."""
        return self.begin(*arguments, out=self.folder / "out.log", errors=self.folder / "err.log")

    def log(self) -> str:
        return (self.folder / "err.log").read_text()
