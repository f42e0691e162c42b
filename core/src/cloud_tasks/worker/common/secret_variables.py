"""Removal of secret variables from this process, so that its tasks and their programs do not inherit them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

__all__ = ["take_variables"]

_ENVIRONMENT_START = 47
"""Place of the address in ``/proc/self/stat``, counted after the name of the program."""


def take_variables(names: Collection[str]) -> dict[str, str]:
    """Remove variables from the environment; return those that were set.

    Where there is a ``/proc``, they are also erased in the environment with which this process was started: that of a
    forked child shows it, too.
    """
    taken = {name: os.environ.pop(name) for name in names if name in os.environ}
    if taken:
        # Not on Linux, or not permitted.
        with contextlib.suppress(OSError, ValueError, IndexError):
            _erase({os.fsencode(name) for name in names})
    return taken


def _erase(names: Collection[bytes]) -> None:
    with open("/proc/self/environ", "rb") as file:
        entries = file.read().split(b"\0")
    with open("/proc/self/stat", "rb") as file:
        address = int(file.read().rpartition(b")")[2].split()[_ENVIRONMENT_START])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        for entry in entries:
            if entry.partition(b"=")[0] in names:
                os.pwrite(memory.fileno(), bytes(len(entry)), address)
            address += len(entry) + 1
