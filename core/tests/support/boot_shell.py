"""Startup scripts run on this machine as on an instance: own root folder, fake power-off programs, no guard left."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["kill_guards", "run_script", "start_script"]


def start_script(
    script: str, folder: Path, *, programs: Mapping[str, str] | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """Start a script in a folder.

    Args:
        programs: Shell code of programs that replace those of the system; those that power off do nothing by default.
    """
    shims = folder / "bin"
    shims.mkdir(exist_ok=True)
    (folder / "root" / "dev").mkdir(parents=True, exist_ok=True)
    for name, body in {"shutdown": "exit 0", "poweroff": "exit 0", **(programs or {})}.items():
        (shims / name).write_text(f"#!/bin/sh\n{body}\n")
        (shims / name).chmod(0o755)
    file = folder / "script"
    file.write_bytes(script.encode())
    file.chmod(0o755)
    return subprocess.Popen(
        [str(file)],
        cwd=folder,
        env={"PATH": f"{shims}:{os.environ['PATH']}", "CLOUD_TASKS_BOOT_ROOT": str(folder / "root"), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run_script(
    script: str, folder: Path, *, programs: Mapping[str, str] | None = None, **environment: str
) -> tuple[int, str, str]:
    """Run a script as `start_script`, and return exit code, output and errors."""
    process = start_script(script, folder, programs=programs, **environment)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output.decode(), errors.decode()


def kill_guards(folder: Path) -> None:
    """Kill whatever the scripts of a folder left."""
    mark = f"CLOUD_TASKS_BOOT_ROOT={folder / 'root'}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
