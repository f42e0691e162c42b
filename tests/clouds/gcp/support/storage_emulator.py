"""A stand-in for Cloud Storage: the emulator `gcp-storage-emulator` as a process of its own, on a port of loopback.

What it does not show: permissions, preconditions, retention, the speed of the real one.
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

__all__ = ["storage_emulator"]

_PATIENCE = 60.0


@contextmanager
def storage_emulator(bucket: str) -> Iterator[str]:
    """The address of a Cloud Storage with one empty bucket; skips where the emulator is not installed."""
    program, port = _program(), _free_port()
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-gcs-") as folder, open(Path(folder) / "log", "wb") as log:
        process = subprocess.Popen(
            [program, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={bucket}"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, port, Path(folder) / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _program() -> str:
    beside = Path(sys.executable).with_name("gcp-storage-emulator")
    found = str(beside) if beside.exists() else shutil.which("gcp-storage-emulator")
    if found is None:
        reason = "the Cloud Storage emulator is not there: pip install gcp-storage-emulator"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the storage emulator did not start: {log.read_text(errors='replace')[-2000:]}", pytrace=False)
        time.sleep(0.05)
