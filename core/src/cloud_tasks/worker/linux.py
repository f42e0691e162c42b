"""What Linux offers for process trees beyond the `os` module. Elsewhere each of these does nothing, or looks harder."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["become_subreaper", "children_of", "die_with_parent", "prepare", "resident_bytes"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGKILL = int(signal.SIGKILL)

_prctl: Callable[..., int] | None = None
_children_file: bool | None = None


def prepare() -> None:
    """Load what the calls below need, once, so that forked processes find it loaded."""
    global _prctl
    if _prctl is None and sys.platform == "linux":
        import ctypes

        library: Any = ctypes.CDLL(None)
        _prctl = getattr(library, "prctl", None)


def become_subreaper() -> None:
    """From now on, orphans among this process's descendants become its children."""
    prepare()
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies."""
    prepare()
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


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
