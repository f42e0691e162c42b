"""Pre-forked children: processes of waiting attempts, forked before a slot is free (Linux only).

A pre-forked child waits at its gate: it reads an eventfd, to which the fork server writes the slot. No core idles
during a fork, and forks in a row share the cost of the pages that the fork server writes to between them.

Invariants, each with a test:

1. A waiting attempt has not started: it can be withdrawn and leaves no process and no file.
2. When processes or files run short, attempts that have a slot take precedence.
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
"""Number of children forked in a row. Of 1, 2, 4 and 8, measured on two cores, the one with the least time per task:
with fewer more pages are copied, and with more the gates open later."""


class Prefork:
    """The pre-forked children."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._count = 0
        """Number of children to fork in a row; 0 for none."""
        self._at_gate: dict[int, Child] = {}
        """Children by the number of the attempt."""

    def enable(self) -> None:
        """Pre-fork from now on, if the system has eventfd."""
        self._count = _COUNT

    def refill(self, waiting: Iterable[RunAttempt]) -> None:
        """Fork children for the first waiting attempts, if all former children run."""
        if self._at_gate or not self._count:
            return
        children: list[Child] = []
        try:
            for message in itertools.islice(waiting, self._count):
                children.append(self._children.prepare(message, None))
            self._children.fork(children)
        except OSError:
            # Processes or open files run short, which are left to attempts that have a slot.
            self._count = 0
        for child in children:
            if child.pid:
                self._at_gate[child.number] = child
            else:
                self._children.remove_named_output(child)
                self._children.close_files(child)

    def open_gate(self, number: int, slot: int) -> Child | None:
        """Assign a slot to an attempt's child and return that; None if the attempt was not pre-forked."""
        child = self._at_gate.pop(number, None)
        if child is not None:
            assert child.gate is not None
            child.slot = slot
            os.eventfd_write(child.gate, slot + 1)
            os.close(child.gate)
            child.gate = None
        return child

    def discard(self) -> None:
        """Kill all children at the gate."""
        for child in self._at_gate.values():
            process_tree.kill_group(child.pid)
            self._children.remove_named_output(child)
        self._at_gate.clear()

    def ended(self, child: Child) -> None:
        """Close the files of a child that exited at its gate; its attempt was withdrawn, or still waits."""
        if self._at_gate.get(child.number) is child:
            del self._at_gate[child.number]
            # It was killed from outside, as the next one might be.
            self._count = 0
        self._children.close_files(child)
