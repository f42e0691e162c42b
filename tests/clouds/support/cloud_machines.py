"""Machines of a stand-in: each runs its startup script as a process group of this machine, in a folder of its own.

Everything that a script starts belongs to its machine: found by a mark in the environment, so that a new session or a
dead parent hides nothing. A machine that is ended leaves no process.

Invariants, each with a test in `tests/clouds/test_support.py`:

1. After `Machine.end` returned, no process of the machine runs.
2. The end of the script is told once, with its exit code; not when the machine was ended from outside.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["Machine"]

_MARK = "CLOUD_STAND_IN_MACHINE"
_PATIENCE = 10.0


class Machine:
    """One machine: made when its startup script starts.

    Args:
        folder: Its own; made here. The script's working folder, home, and place of the console log.
        script: The whole startup script, with its ``#!`` line.
        environment: What its processes see besides ``PATH`` (with this Python's programs first) and ``HOME``.
        on_exit: Called, from another thread, when the script ended by itself, with its exit code.
    """

    def __init__(
        self,
        folder: Path,
        script: str | bytes,
        *,
        environment: Mapping[str, str],
        on_exit: Callable[[int], None] = lambda code: None,
    ) -> None:
        self.folder = folder
        self._on_exit = on_exit
        self._ended = threading.Event()
        self._lock = threading.Lock()
        folder.mkdir(parents=True)
        self.console_file = folder / "console.log"
        program = folder / "startup-script"
        program.write_bytes(script.encode() if isinstance(script, str) else script)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "HOME": str(folder),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            **{name: os.environ[name] for name in ("PYTHONPATH", "CLOUD_TASKS_GUARD_LOG") if name in os.environ},
            **environment,
            _MARK: str(folder),
        }
        with self.console_file.open("wb") as console:
            self._process = subprocess.Popen(
                [str(program)],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def running(self) -> bool:
        """Whether anything of it runs."""
        return self._process.poll() is None or bool(self.processes())

    def console(self) -> str:
        """What the script printed so far."""
        return self.console_file.read_text(errors="replace")

    def processes(self) -> set[int]:
        """The living processes of this machine."""
        mark = f"{_MARK}={self.folder}".encode()
        return {pid for pid in _pids() if mark in _environment(pid)}

    def end(self, *, grace: float = 0.0) -> None:
        """Power off: SIGTERM to all, SIGKILL to what is left after ``grace`` seconds; returns when nothing is."""
        with self._lock:
            self._ended.set()
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline and self.running:
                time.sleep(0.02)
            deadline = time.monotonic() + _PATIENCE
            while self.running and time.monotonic() < deadline:
                self._signal(signal.SIGKILL)
                time.sleep(0.01)
            self._process.wait(_PATIENCE)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._ended.is_set():
            self._on_exit(code)


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []
