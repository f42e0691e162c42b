"""Set-up of a task process: session, signals, output, random numbers. Every task passes it, so its calls are few.

Invariant, with a test: no signal that a task may send ends the processes that fork task processes. They ignore those of
the terminal and of shutdowns, and block all others but SIGCHLD; task processes restore what Python starts with.
"""

from __future__ import annotations

import signal
from collections.abc import Collection
from os import _exit, dup2, getppid
from sys import modules

from cloud_tasks.worker.common.private_api import set_signal, set_signal_mask
from cloud_tasks.worker.common.process_tree import lead_tree, unblock_signals

__all__ = ["refuse_signals", "reseed_numpy", "restore_mask", "restore_signals", "set_up"]

_set_wakeup_fd, _interrupt = signal.set_wakeup_fd, signal.default_int_handler
_SIG_DFL, _SIG_IGN = int(signal.SIG_DFL), int(signal.SIG_IGN)
_SIGCHLD, _SIGHUP, _SIGINT = int(signal.SIGCHLD), int(signal.SIGHUP), int(signal.SIGINT)
_SIGPIPE, _SIGTERM = int(signal.SIGPIPE), int(signal.SIGTERM)
_SIG_SETMASK = int(signal.SIG_SETMASK)


def refuse_signals() -> Collection[int]:
    """Ignore or block all signals but SIGCHLD in this process; return the former mask.

    Signals that go to a whole process group are ignored: threads of libraries need not block them.
    """
    for number in (_SIGINT, _SIGTERM, _SIGHUP, _SIGPIPE):
        set_signal(number, _SIG_IGN)
    former: Collection[int] = set_signal_mask(_SIG_SETMASK, signal.valid_signals() - {signal.SIGCHLD})
    return former


def restore_mask(former: Collection[int]) -> None:
    """Unblock the signals that `refuse_signals` has blocked."""
    set_signal_mask(_SIG_SETMASK, former)


def set_up(parent: int, output: int | None) -> None:
    """Start a session, all of whose processes are killed with this one; restore signals, redirect the output."""
    lead_tree()
    if getppid() != parent:
        _exit(70)
    restore_signals()
    if output is not None:
        dup2(output, 1)
        dup2(output, 2)


def restore_signals() -> None:
    """Set the signal handlers that Python starts with, whatever the program or the fork server has set."""
    _set_wakeup_fd(-1)
    set_signal(_SIGCHLD, _SIG_DFL)
    set_signal(_SIGTERM, _SIG_DFL)
    set_signal(_SIGHUP, _SIG_DFL)
    set_signal(_SIGINT, _interrupt)
    # SIGPIPE is ignored already.
    unblock_signals()


def reseed_numpy() -> None:
    """Reseed NumPy's global generator."""
    # Python reseeds `random` in a forked process; NumPy does not, so that all tasks would get the same numbers.
    modules["numpy.random"].seed()
