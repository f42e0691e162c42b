"""What supervisor and template say to each other: both import the words from here, and nothing of one another.

=====================================================  ==========================================================
from the supervisor                                    to the supervisor
=====================================================  ==========================================================
``(RUN, number, id, attempt, body, scratch)``           ``(STARTED, number, slot, pid, when)``
``(KILL, number, signal)``                             ``(ENDED, number, status, when, content, tail)``
``(WITHDRAW,)``                                        ``(WITHDRAWN, numbers)``: these will not be started
``(PROCESS, slot)``                                    ``(CHILD, slot, pid)`` with the socket of a process that does
                                                       several tasks, ``(GONE, slot, status, tail)`` at its end
``(KILL_PID, pid, signal)``
``(QUIT,)``                                            ``(READY, problem)`` once, after ``worker_init``
=====================================================  ==========================================================

``when`` is `time.monotonic`. ``content`` is what the task reported; None: it comes as a descriptor, being long.
"""

from __future__ import annotations

__all__ = [
    "CHILD",
    "ENDED",
    "GONE",
    "KILL",
    "KILL_PID",
    "PROCESS",
    "QUIT",
    "READY",
    "RUN",
    "STARTED",
    "WITHDRAW",
    "WITHDRAWN",
]

RUN, KILL, QUIT, PROCESS, KILL_PID, WITHDRAW = 1, 2, 3, 4, 5, 6
STARTED, ENDED, READY, CHILD, GONE, WITHDRAWN = 11, 12, 13, 14, 15, 16
