"""Standard streams that the process was started without, as by ``2>&-``. Standard library only.

Invariant, with a test: afterwards ``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` are streams, and no file that is
opened later, such as a database, gets one of the descriptors 0, 1 and 2, to which libraries and child processes write.
"""

from __future__ import annotations

import os
import sys

__all__ = ["open_closed_streams"]


def open_closed_streams() -> None:
    """Open the null device for each closed standard stream. Idempotent; call first in a program."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            # The descriptor may be that of a file that was opened since the start, so it is not written to.
            stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
