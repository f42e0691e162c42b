"""Private parts of Python that the worker uses. No other module of the worker uses any.

Every task process loads this module, so it imports only what the interpreter itself is made of. Each part has a
purpose, and a replacement for an interpreter without it:

- ``_socket``: sockets without the four modules that `socket` loads into every task process. Replacement: `socket`.
- ``_signal.signal``: signals restored without the enumerations of `signal`, 0.1 ms per task. Replacement:
  `signal.signal`.
- ``_queue.SimpleQueue``: a queue without the module `queue`. Replacement: `queue.SimpleQueue`.
- ``asyncio._get_running_loop`` and ``asyncio._set_running_loop``: event loops in tasks of a worker that was started
  from an event loop. No replacement: `asyncio.run` fails in such a task.
- ``_option_string_actions`` and ``_actions`` of a parser: options of the program that take the place of the worker's.
  Replacement: argparse reports the conflict.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    import socket

__all__ = ["forget_event_loop", "names_in_use", "open_socket", "set_signal", "simple_queue", "sockets"]

sockets: Any
"""The functions and constants of `socket`."""
try:
    import _socket as sockets
except ImportError:
    import socket as sockets

set_signal: Any = getattr(sys.modules.get("_signal"), "signal", signal.signal)
"""`signal.signal`, for plain integers."""


def open_socket(descriptor: int) -> socket.socket:
    """Return the socket of a descriptor, which it owns from now on."""
    opened: socket.socket = sockets.socket(fileno=descriptor)
    return opened


def simple_queue() -> Any:
    """Return a new `queue.SimpleQueue`."""
    try:
        from _queue import SimpleQueue
    except ImportError:
        from queue import SimpleQueue
    return SimpleQueue()


def forget_event_loop() -> None:
    """Unset the running asyncio event loop, from which the program may have started the worker.

    A task could not run a loop of its own otherwise.
    """
    asyncio: Any = sys.modules.get("asyncio")
    if not hasattr(asyncio, "_set_running_loop"):
        return
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    # A forked process shares the selector's file with the supervisor: a change in one would affect both.
    inner = getattr(getattr(loop, "_selector", None), "fileno", None)
    if inner is not None:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nothing, inner(), inheritable=False)
        os.close(nothing)


def names_in_use(parser: argparse.ArgumentParser) -> tuple[set[str], set[str]]:
    """Return the flags of a parser's options, and the names of its values."""
    flags = getattr(parser, "_option_string_actions", {})
    return {*flags}, {action.dest for action in getattr(parser, "_actions", ())}
