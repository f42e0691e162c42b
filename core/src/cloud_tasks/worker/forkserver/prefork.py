"""Processes forked before their slot is free: each waits at a gate, an eventfd that is written the slot.

On Linux the first of the waiting attempts have their processes already: no core waits for a fork, and forks in a row
share the cost of what the fork server does between them.

Invariants, each with a test:

1. A waiting attempt has not begun: it can be withdrawn, and leaves nothing behind.
2. When no more processes or files can be had, slots come first.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable

from cloud_tasks.worker.common import process_tree
from cloud_tasks.worker.forkserver.children import Child, Children
from cloud_tasks.worker.forkserver.protocol import RunAttempt

__all__ = ["Prefork"]

_COUNT = 2 if hasattr(os, "eventfd") else 0
"""Processes forked in a row for waiting attempts. Of 1, 2, 4 and 8, on two cores, the one with the least time per
task: fewer cost more of the fork server's memory, and no gate opens while more are forked."""


class Prefork:
    """The children at the gate."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._count = 0
        """0: none is forked in advance."""
        self._at_gate: dict[int, Child] = {}
        """By the attempt's number."""

    def enable(self) -> None:
        """Fork in advance from now on, where the system has gates."""
        self._count = _COUNT

    def refill(self, waiting: Iterable[RunAttempt]) -> None:
        """Fork processes for the first waiting attempts, if all former ones have begun."""
        if self._at_gate or not self._count:
            return
        children: list[Child] = []
        try:
            for message in itertools.islice(waiting, self._count):
                children.append(self._children.prepare(message, None))
            self._children.fork(children)
        except OSError:
            # No more processes or open files can be had: slots come first.
            self._count = 0
        for child in children:
            if child.pid:
                self._at_gate[child.number] = child
            else:
                self._children.unname_output(child)
                self._children.put_away(child)

    def open_gate(self, number: int, slot: int) -> Child | None:
        """Give an attempt's process its slot; None: it has no process yet."""
        child = self._at_gate.pop(number, None)
        if child is not None:
            assert child.gate is not None
            child.slot = slot
            os.eventfd_write(child.gate, slot + 1)
            os.close(child.gate)
            child.gate = None
        return child

    def discard(self) -> None:
        """Kill all; none has begun."""
        for child in self._at_gate.values():
            process_tree.kill_group(child.pid)
            self._children.unname_output(child)
        self._at_gate.clear()

    def ended(self, child: Child) -> None:
        """Close the files of a child that ended at its gate; its attempt was withdrawn, or still waits."""
        if self._at_gate.get(child.number) is child:
            del self._at_gate[child.number]
            # Something killed it, and might kill the next.
            self._count = 0
        self._children.put_away(child)
