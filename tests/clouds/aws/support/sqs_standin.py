"""A stand-in for SQS: the emulator `ministack` as a process of its own, on a port of loopback that was free.

What it does not show: a deleted or purged queue answers at once, not within a minute; a receipt handle whose lease
has ended may still be extended; no throttling.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqs_clock import ClockedSqs

__all__ = ["clocked_sqs", "sqs_server"]

_CLOCKED = Path(__file__).with_name("sqs_clock.py")
_PATIENCE = 30.0


@contextmanager
def sqs_server() -> Iterator[str]:
    """The address of an empty SQS, which ends with the context; skips where the emulator is not installed."""
    with _serving([_program()], subprocess.DEVNULL, subprocess.STDOUT) as (url, _):
        yield url


@contextmanager
def clocked_sqs() -> Iterator[ClockedSqs]:
    """The same, by a clock that the test can put forward."""
    _program()
    with _serving([sys.executable, str(_CLOCKED)], subprocess.PIPE, subprocess.PIPE) as (url, process):
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            yield ClockedSqs(url, process.stdin, process.stdout)
            process.terminate()


@contextmanager
def _serving(command: list[str], stdin: int, stdout: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-sqs-") as folder, open(Path(folder) / "log", "wb") as log:
        port = _free_port()
        environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "sqs"}
        output = log if stdout == subprocess.STDOUT else stdout
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=stdin, stdout=output, stderr=log, text=True
        )
        try:
            _wait(process, port, Path(folder) / "log")
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _program() -> str:
    beside = Path(sys.executable).with_name("ministack")
    found = str(beside) if beside.exists() else shutil.which("ministack")
    if found is None:
        reason = "the SQS emulator is not there: pip install ministack"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[str], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the SQS emulator did not start: {log.read_text(errors='replace')[-2000:]}", pytrace=False)
        time.sleep(0.02)
