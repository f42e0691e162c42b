"""Commands whose reader closes its pipe early, as ``head`` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_facts import completed, new_store

RUN = "from cloud_tasks.cli.main import main; main()"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("status --db-file job.db", 0),
        ("status --db-file job.db --json", 0),
        ("export tasks --db-file job.db --format csv", 0),
        ("plugins list", 0),
        ("status --db-file missing.db", 2),
        ("--help", 0),
        ("--version", 0),
        ("run --help", 0),
        ("plugins new --help", 0),
        ("status --no-such-option", 2),
        ("", 2),
    ],
)
def test_command_with_a_closed_pipe_ends_with_its_own_code(
    tmp_path: Path, arguments: str, code: int, stream: str
) -> None:
    with new_store(tmp_path, [f"t{n}" for n in range(500)]) as store:
        store.apply_events([completed(f"t{n}") for n in range(500)])
    reader, writer = os.pipe()
    os.close(reader)
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments.split()], cwd=tmp_path, text=True, check=False, timeout=60, **streams
    )
    os.close(writer)
    assert done.returncode == code
    assert "Traceback" not in (done.stderr or "")
    assert "Exception ignored" not in (done.stderr or "")
