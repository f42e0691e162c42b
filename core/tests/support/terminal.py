"""Run commands on a pseudo-terminal with typed input."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import threading
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Session:
    """Result of a command."""

    code: int
    out: str
    err: str


def in_a_terminal(folder: Path, answers: str, *arguments: str) -> Session:
    """Run ``cloud-tasks`` in a folder; the answers, one a line, are typed ahead."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answers}\n".encode())
        done = subprocess.run(
            [sys.executable, "-c", "from cloud_tasks.cli.main import main; main()", *arguments],
            cwd=folder,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return Session(code=done.returncode, out=done.stdout, err=done.stderr)


_CONTROLLING = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""
"""Make the terminal the controlling one, so that Ctrl-C reaches the process."""
_MAIN = """
from cloud_tasks.cli.main import main
main()
"""


class Screen:
    """Command with a terminal as standard input, output and error; a context manager that kills it.

    Args:
        program: Python code to run instead of ``cloud-tasks``.
    """

    def __init__(self, folder: Path, *arguments: str, program: str = _MAIN) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLING + program, *arguments],
            cwd=folder,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._is_open = True
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # A terminal raises an error once its last process has exited.
        with contextlib.suppress(OSError):
            while self._is_open:
                if select.select([self._ours], [], [], 0.05)[0]:
                    found = os.read(self._ours, 65536)
                    if not found:
                        return
                    self._shown += found

    @property
    def shown(self) -> str:
        """Return everything shown so far, without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._shown.decode("utf-8", "replace"))

    def type(self, keys: str) -> None:
        """Press keys; ``\x03`` is Ctrl-C."""
        os.write(self._ours, keys.encode())

    def close(self) -> None:
        """Close the terminal, maybe while the command runs."""
        # A terminal that is being read stays open.
        self._is_open = False
        self._reader.join(timeout=60)
        os.close(self._ours)

    def end(self) -> int:
        """Wait for the exit; return the exit code."""
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=60)
        return code

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        if self._is_open:
            self.close()
