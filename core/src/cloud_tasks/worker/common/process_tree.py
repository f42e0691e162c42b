"""Process trees: sessions, subreapers, children, memory. Outside Linux each function does nothing, or less.

Outside Linux (macOS) a process that a task started, and that has left its session, outlives the task.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Container, Iterable
from typing import Any, NoReturn

__all__ = [
    "alarm_pipe",
    "become_subreaper",
    "children_of",
    "give_back_memory",
    "head_tree",
    "kill",
    "kill_group",
    "leave",
    "prepare",
    "reap",
    "resident_bytes",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGKILL = int(signal.SIGKILL)

_prctl: Callable[..., int] | None = None
_setsid: Callable[[], Any] = os.setsid
_malloc_trim: Callable[[int], int] | None = None
_children_file: bool | None = None

leave: Callable[[int], NoReturn] = os._exit
"""Ends this process at once, with that exit code."""


def prepare() -> None:
    """Load what the calls below need, once, so that forked processes find it loaded."""
    global _prctl, _setsid, _malloc_trim, leave
    if _prctl is None and sys.platform == "linux":
        import ctypes

        library: Any = ctypes.PyDLL(None)
        _prctl = getattr(library, "prctl", None)
        # Found here: Python's own would be looked up in the libraries by each forked process that calls them.
        _setsid, leave = library.setsid, library._exit
        # glibc's; other C libraries have none.
        _malloc_trim = getattr(library, "malloc_trim", None)


def become_subreaper() -> None:
    """From now on, orphans among this process's descendants become its children."""
    prepare()
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def head_tree() -> None:
    """In a process forked after `prepare`: head a session, die with the parent, take in the descendants' orphans."""
    _setsid()
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def give_back_memory() -> None:
    """Give freed memory back to the system: each page that a process has costs its forks time."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def alarm_pipe() -> tuple[int, int]:
    """A pipe for `signal.set_wakeup_fd`: both ends never block, and are inherited by no program."""
    if hasattr(os, "pipe2"):
        return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def reap(heads: Container[int]) -> tuple[int, int] | None:
    """Reap a child that has ended; returns its pid and status, None if none has. Raises `ChildProcessError`.

    Args:
        heads: The children whose process group is killed before; on Linux while their pid cannot be another's yet.
    """
    if hasattr(os, "waitid"):
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        pid = ended.si_pid
        if pid in heads:
            kill_group(pid)
        return os.waitpid(pid, 0)
    pid, status = os.waitpid(-1, os.WNOHANG)
    if pid == 0:
        return None
    if pid in heads:
        kill_group(pid)
    return pid, status


def kill(pid: int) -> None:
    """Kill a process, if it is there."""
    try:
        os.kill(pid, _SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def kill_group(pid: int, number: int = _SIGKILL) -> None:
    """Signal the process group of a child that is not yet reaped, or the child alone before it has made its group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
    except PermissionError:
        return


def children_of(pid: int) -> list[int]:
    """The children of a process that has one thread, zombies included."""
    global _children_file
    if _children_file is not False:
        try:
            text = _read(f"/proc/{pid}/task/{pid}/children")
            _children_file = True
            return [int(child) for child in text.split()]
        except OSError:
            if _children_file:
                return []
            _children_file = False
    return [child for child, parent in _parents() if parent == pid]


def resident_bytes(roots: Iterable[int]) -> dict[int, int]:
    """The memory that each process and its descendants have resident; pages that they share count more than once."""
    owner = {root: root for root in roots}
    pairs = _parents() if owner else []
    grown = True
    while grown:
        found = {child: owner[parent] for child, parent in pairs if parent in owner and child not in owner}
        owner.update(found)
        grown = bool(found)
    page = os.sysconf("SC_PAGE_SIZE")
    total: dict[int, int] = {}
    for pid, root in owner.items():
        try:
            total[root] = total.get(root, 0) + int(_read(f"/proc/{pid}/statm").split()[1]) * page
        except (OSError, IndexError):
            continue
    return total


def _parents() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process."""
    pairs: list[tuple[int, int]] = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return pairs
    for name in names:
        if name.isdigit():
            try:
                status = _read(f"/proc/{name}/stat")
            except OSError:
                continue
            # The command's name is in parentheses, and may hold any character.
            pairs.append((int(name), int(status[status.rfind(b")") + 2 :].split(None, 2)[1])))
    return pairs


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
