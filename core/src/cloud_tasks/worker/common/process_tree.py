"""Process trees: sessions, subreapers, children, memory.

Outside Linux (macOS) there are no subreapers: a process that a task started outlives the task if it has left the
session.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Container, Iterable
from typing import Any, NoReturn

__all__ = [
    "become_subreaper",
    "children_of",
    "continue_when_orphaned",
    "is_stopped",
    "kill",
    "kill_group",
    "lead_tree",
    "leave",
    "prepare",
    "reap",
    "resident_bytes",
    "resume",
    "trim_memory",
    "unblock_signals",
    "wake_pipe",
]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGKILL, _SIGCONT = int(signal.SIGKILL), int(signal.SIGCONT)
_SIG_SETMASK = int(signal.SIG_SETMASK)
_SIGSET_BYTES = 128
"""Size of a C `sigset_t` on Linux; no bit is set in that of no signal."""
_EXITED = os.WEXITED | os.WNOHANG | os.WNOWAIT if hasattr(os, "waitid") else 0
"""Options of `os.waitid` for a child that has exited, which stays."""

_prctl: Callable[..., int] | None = None
_setsid: Callable[[], Any] = os.setsid
_malloc_trim: Callable[[int], int] | None = None
_set_mask: Callable[..., Any] | None = None
_no_signals: Any = None
_children_file: bool | None = None

_exit: Callable[[int], NoReturn] = os._exit


def prepare() -> None:
    """Load the C functions that the other functions call, before any fork."""
    global _prctl, _setsid, _malloc_trim, _set_mask, _no_signals, _exit
    if _prctl is None and sys.platform == "linux":
        import ctypes

        library: Any = ctypes.PyDLL(None)
        _prctl = getattr(library, "prctl", None)
        # Resolved here: each forked process would have to resolve Python's own.
        _setsid, _exit = library.setsid, library._exit
        # Python's own returns the former mask: a set of sixty numbers.
        _set_mask, _no_signals = library.pthread_sigmask, ctypes.create_string_buffer(_SIGSET_BYTES)
        # Only glibc has it.
        _malloc_trim = getattr(library, "malloc_trim", None)


def become_subreaper() -> None:
    """Adopt the orphans among this process's descendants from now on."""
    prepare()
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def lead_tree() -> None:
    """Start a session, die with the parent, and become subreaper. Call after `prepare`, in the child."""
    _setsid()
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def leave(code: int) -> NoReturn:
    """Exit this process at once with an exit code."""
    _exit(code)


def continue_when_orphaned() -> None:
    """Have the system continue this process, if it is stopped, once its parent has exited. Call in the child."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, _SIGCONT, 0, 0, 0)


def unblock_signals() -> None:
    """Unblock all signals. Call after `prepare`."""
    if _set_mask is None:
        signal.pthread_sigmask(_SIG_SETMASK, ())
    else:
        _set_mask(_SIG_SETMASK, _no_signals, None)


def trim_memory() -> None:
    """Return freed memory to the system: each page of a process takes time in its forks."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def wake_pipe() -> tuple[int, int]:
    """Return a pipe for `signal.set_wakeup_fd`, whose ends neither block nor are inherited by executed programs."""
    if hasattr(os, "pipe2"):
        return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def reap(heads: Container[int]) -> tuple[int, int] | None:
    """Reap an exited child; return its pid and wait status, None for none.

    Args:
        heads: Children whose process group is killed first; on Linux while their pid cannot be reused.

    Raises:
        ChildProcessError: There are no children.
    """
    if _EXITED:
        exited = os.waitid(os.P_ALL, 0, _EXITED)
        if exited is None:
            return None
        pid = exited[0]
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
    """Kill a process, if it exists and may be killed."""
    try:
        os.kill(pid, _SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def resume(pid: int) -> None:
    """Continue a process, if it exists and may be continued."""
    try:
        os.kill(pid, _SIGCONT)
    except (ProcessLookupError, PermissionError):
        return


def is_stopped(pid: int) -> bool:
    """Return whether a signal has stopped a process, or another one traces it; False where that is unknown."""
    try:
        status = _read(f"/proc/{pid}/stat")
    except OSError:
        return False
    return status[status.rfind(b")") + 2 :][:1] in (b"T", b"t")


def kill_group(pid: int, number: int = _SIGKILL) -> None:
    """Signal the process group of a child that is not reaped, or the child alone before it has a group."""
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
    """Return the children of a single-threaded process, including zombies."""
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
    """Return the resident memory of each process with its descendants; shared pages count repeatedly."""
    owner = {root: root for root in roots}
    pairs = _parents() if owner else []
    has_grown = True
    while has_grown:
        found = {child: owner[parent] for child, parent in pairs if parent in owner and child not in owner}
        owner.update(found)
        has_grown = bool(found)
    page = os.sysconf("SC_PAGE_SIZE")
    total: dict[int, int] = {}
    for pid, root in owner.items():
        try:
            total[root] = total.get(root, 0) + int(_read(f"/proc/{pid}/statm").split()[1]) * page
        except (OSError, IndexError):
            continue
    return total


def _parents() -> list[tuple[int, int]]:
    """Return (pid, pid of the parent) of every process."""
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
            # The name of the command is in parentheses and may contain any character.
            pairs.append((int(name), int(status[status.rfind(b")") + 2 :].split(None, 2)[1])))
    return pairs


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
