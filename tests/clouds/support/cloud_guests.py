"""Guests of fake instances: each runs its startup script as a process group of this machine, in its own folder.

All processes started by a script belong to its guest: they are found by a marker in the environment, so a new session
or a dead parent hides none. A terminated guest leaves no process.

Invariants, each with a test in `tests/clouds/test_support.py`:

1. After `Guest.end` returned, no process of the guest runs.
2. The exit of the script is reported once, with its exit code; not when the guest was terminated from outside.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bare_machine import TEMPLATE, bare_command

__all__ = ["Guest"]

_MARKER = "CLOUD_FAKE_INSTANCE"
_TIMEOUT = 10.0
_INHERITED = ("PYTHONPATH", "CLOUD_TASKS_GUARD_LOG", "CLOUD_TASKS_BOOT_GRACE")


class Guest:
    """Guest of one fake instance; creating it starts the startup script.

    Args:
        folder: Folder of the guest, created here: the script's working directory, home, and console log.
        script: Whole startup script, with its ``#!`` line.
        environment: Variables of its processes besides ``PATH`` (with this Python's programs first) and ``HOME``. On a
            bare machine, the first folder of ``PATH`` has programs that it gets.
        on_exit: Called with the exit code, in another thread, when the script exits by itself.
        root: Root folder of which a bare machine is a copy; None for that of the environment.
    """

    def __init__(
        self,
        folder: Path,
        script: str | bytes,
        *,
        environment: Mapping[str, str],
        on_exit: Callable[[int], None] = lambda code: None,
        root: Path | None = None,
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
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "CLOUD_TASKS_BOOT_ROOT": str(folder / "root"),
            **environment,
            _MARKER: str(folder),
        }
        command: Sequence[str] = [str(program)]
        if template := os.environ.get(TEMPLATE):
            commands = Path(variables["PATH"].partition(":")[0])
            command, variables = bare_command(root or Path(template), folder, program, variables, commands)
            self.console_file.symlink_to(folder / "root" / "console.log")
        else:
            # Programs of the system, such as the boot guard, write to the same console as the script.
            device = folder / "root" / "dev" / "console"
            device.parent.mkdir(parents=True)
            device.symlink_to(self.console_file)
        with self.console_file.open("ab") as console:
            self._process = subprocess.Popen(
                command,
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
        """Return whether any process of the guest runs."""
        return self._process.poll() is None or bool(self.processes())

    def console(self) -> str:
        """Return the script's output so far."""
        return self.console_file.read_text(errors="replace")

    def processes(self) -> set[int]:
        """Return the running processes of the guest."""
        marker = f"{_MARKER}={self.folder}".encode()
        return {pid for pid in _pids() if marker in _environment(pid)}

    def end(self, *, grace: float = 0.0) -> None:
        """Power off: SIGTERM to all processes, SIGKILL after ``grace`` seconds; return when none is left."""
        with self._lock:
            self._ended.set()
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while time.monotonic() < deadline and self.running:
                time.sleep(0.02)
            deadline = time.monotonic() + _TIMEOUT
            while self.running and time.monotonic() < deadline:
                self._signal(signal.SIGKILL)
                time.sleep(0.01)
            self._process.wait(_TIMEOUT)

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
