"""Membership and termination of an instance's processes. Standard library only; needs Linux's ``/proc``.

A process belongs to an instance when its environment carries the instance's marker or when an ancestor belongs to it,
so a new session, a cleared environment or a dead parent alone does not hide it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["MARKER", "instance_processes", "kill_all", "process_name", "signal_process", "start_time"]

MARKER = "CLOUD_TASKS_LOCAL_INSTANCE"
"""Environment variable that marks an instance's processes; its value is the instance's folder."""

_PROC = Path("/proc")


def start_time(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None without such a process. Pid and start time
    identify a process."""
    status = _status(pid)
    return None if status is None else status[1]


def process_name(pid: int) -> str:
    """Return the name that a process has given itself, or that of its program; empty without such a process."""
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def signal_process(pid: int, started: int, number: signal.Signals) -> bool:
    """Signal the process with this pid and start time, and no later one; return False when it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The descriptor refers to the process that had the pid when it was opened, so the check after that is final.
        if start_time(pid) != started:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def instance_processes(folder: Path, *, root: int | None = None) -> set[int]:
    """Return the running processes of an instance.

    Args:
        folder: Value of the marker.
        root: Pid of the runner process, whose descendants belong to the instance; it and the caller are excluded.
    """
    mark = f"{MARKER}={folder}".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid in _pids():
        status = _status(pid)
        if status is None:
            continue
        parents[pid] = status[0]
        with suppress(OSError):
            if mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found.add(pid)
    known = found | ({root} if root is not None else set())
    members = {pid for pid in parents if _has_ancestor(pid, parents, known)}
    return members - {root, os.getpid()}


def kill_all(folder: Path, *, root: int | None = None, timeout: float = 10.0) -> set[int]:
    """Kill the processes of an instance, including those started meanwhile; return the pids left after ``timeout``
    seconds."""
    deadline = time.monotonic() + timeout
    while remaining := instance_processes(folder, root=root):
        for pid in remaining:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    return remaining


def _has_ancestor(pid: int, parents: dict[int, int], known: set[int]) -> bool:
    seen = set()
    while pid not in known:
        seen.add(pid)
        pid = parents.get(pid, 0)
        if pid in seen or pid == 0:
            return False
    return True


def _pids() -> Iterator[int]:
    with suppress(FileNotFoundError):
        for name in os.listdir(_PROC):
            if name.isdigit():
                yield int(name)


def _status(pid: int) -> tuple[int, int] | None:
    """Return parent and start time of a running process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself contain parentheses and blanks.
    state, parent, *rest = text[text.rindex(")") + 2 :].split()
    return None if state in "ZX" else (int(parent), int(rest[17]))
