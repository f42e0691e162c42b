"""Fixture with a folder for workers, whose processes are killed after each test."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

from worker_harness import Harness, descendants_of_session, is_alive


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Harness]:
    information = tmp_path / "site" / "worker_test_plugin-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: worker-test-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[cloud_tasks]\nfolder = worker_test_plugin\n")
    harness = Harness(tmp_path, f"worker-test-{os.getpid()}-{os.urandom(6).hex()}")
    yield harness
    for process in harness.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
    for pid in [*descendants_of_session(harness.mark), *harness.pids()]:
        if is_alive(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
