"""Watch of the fork server and the zygote, which a task may stop or block.

Invariants, each with a test:

1. One that is stopped is continued within seconds; one that is stopped at each check, such as a traced one, is killed.
2. A fork server that does not answer for a minute is killed. None has to answer before ``worker_init`` has returned.
"""

from __future__ import annotations

from collections.abc import Callable

from cloud_tasks.worker.common import process_tree

__all__ = ["WATCH_INTERVAL", "ForkserverWatch"]

WATCH_INTERVAL = 2.0
"""Seconds between two checks."""
_MAX_STOPPED = 5
"""Checks in a row that may find a process stopped. Checks count, not seconds, for this process may be stopped, too."""
_MAX_UNANSWERED = 30
"""Messages in a row that may be unanswered."""


class ForkserverWatch:
    """The two processes, and how they were at the last checks.

    Args:
        ping: Asks the fork server for an answer.
        on_problem: Called with a line for the log.
    """

    def __init__(self, ping: Callable[[], None], on_problem: Callable[[str], None]) -> None:
        self._ping = ping
        self._on_problem = on_problem
        self.zygote = self.forkserver = 0
        """Pids; 0 for none."""
        self._stopped: dict[int, int] = {}
        """Number of checks in a row that have found a process stopped."""
        self._reported: set[int] = set()
        self.is_ready = False
        """Whether ``worker_init`` has returned."""
        self._unanswered = 0

    def start(self, zygote: int, forkserver: int) -> None:
        """Watch a new fork server."""
        self.zygote, self.forkserver = zygote, forkserver
        self.is_ready = False
        self._unanswered = 0

    def answered(self) -> None:
        """Note that the fork server has sent something."""
        self.is_ready = True
        self._unanswered = 0

    def check(self) -> None:
        """Continue what is stopped, kill what stays so or does not answer."""
        for pid, name in ((self.zygote, "zygote"), (self.forkserver, "fork server")):
            if pid:
                self._check_state(pid, name)
        if not (self.forkserver and self.is_ready):
            return
        self._unanswered += 1
        if self._unanswered > _MAX_UNANSWERED:
            self._on_problem("The fork server does not answer; it will be killed")
            process_tree.kill(self.forkserver)
        else:
            self._ping()

    def _check_state(self, pid: int, name: str) -> None:
        if not process_tree.is_stopped(pid):
            self._stopped.pop(pid, None)
            return
        count = self._stopped[pid] = self._stopped.get(pid, 0) + 1
        if count > _MAX_STOPPED:
            self._on_problem(f"The {name} is being kept from running; it will be killed")
            process_tree.kill(pid)
            return
        if pid not in self._reported:
            self._reported.add(pid)
            self._on_problem(f"The {name} was stopped by a signal, as a task may send; it was continued")
        process_tree.resume(pid)
