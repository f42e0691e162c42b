"""Set-up of a task process: session, signals, output, random numbers. Every task passes it, so its calls are few."""

from __future__ import annotations

import signal
from os import _exit, dup2, getppid
from sys import modules
from typing import Any

from cloud_tasks.worker.common import process_tree

__all__ = ["reseed_numpy", "restore_signals", "set_up"]

# The function below `signal.signal`, whose enumerations would take a forked process 0.1 ms.
_set_signal: Any = modules["_signal"].signal
_set_wakeup_fd, _interrupt = signal.set_wakeup_fd, signal.default_int_handler
_SIG_DFL, _SIG_IGN = int(signal.SIG_DFL), int(signal.SIG_IGN)
_SIGCHLD, _SIGHUP, _SIGINT = int(signal.SIGCHLD), int(signal.SIGHUP), int(signal.SIGINT)
_SIGPIPE, _SIGTERM = int(signal.SIGPIPE), int(signal.SIGTERM)


def set_up(parent: int, output: int | None) -> None:
    """Start a session, all of whose processes are killed with this one; restore signals, redirect the output."""
    process_tree.lead_tree()
    if getppid() != parent:
        _exit(70)
    restore_signals()
    if output is not None:
        dup2(output, 1)
        dup2(output, 2)


def restore_signals() -> None:
    """Set the signal handlers that Python starts with, whatever the program or the fork server has set."""
    _set_wakeup_fd(-1)
    _set_signal(_SIGCHLD, _SIG_DFL)
    _set_signal(_SIGTERM, _SIG_DFL)
    _set_signal(_SIGHUP, _SIG_DFL)
    _set_signal(_SIGINT, _interrupt)
    _set_signal(_SIGPIPE, _SIG_IGN)


def reseed_numpy() -> None:
    """Seed NumPy's global generator again."""
    # Python reseeds `random` in a forked process; NumPy does not, so that all tasks would get the same numbers.
    modules["numpy.random"].seed()
