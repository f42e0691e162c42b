"""Private parts of Python that the worker uses. No other module of the worker uses any.

Every task process loads this module, so it imports only what the interpreter itself is made of. Each part has a
purpose, and a replacement for an interpreter without it:

- ``_socket``: sockets without the four modules that `socket` loads into every task process. Replacement: `socket`.
- ``_signal.signal`` and ``_signal.pthread_sigmask``: signals restored without the enumerations of `signal`, 0.1 ms per
  task. Replacement: those of `signal`.
- ``_queue.SimpleQueue``: a queue without the module `queue`. Replacement: `queue.SimpleQueue`.
- ``asyncio._get_running_loop`` and ``asyncio._set_running_loop``: event loops in tasks of a worker that was started
  from an event loop. No replacement: `asyncio.run` fails in such a task.
- ``atexit._ncallbacks`` and ``_thread._count``: whether a task has left exit functions or threads, in two calls.
  Replacement: every task process is ended as if it had.
- ``atexit._clear`` and ``_run_exitfuncs``, ``weakref.finalize._registry`` and ``_registered_with_atexit``,
  ``multiprocessing.util._finalizer_registry`` and ``_exit_function``, ``multiprocessing.process._children``,
  ``logging._handlerList``: exit functions, finalizers, children and handlers of a task, apart from those of the program
  that it was forked from. No replacement: inherited ones run in tasks as well, or those of the task do not.
- ``threading._threading_atexits`` and ``_shutdown``: the end of the threads that libraries stop at exit. Replacement:
  such threads end with the process.
- ``_ctypes``: the end of a spawned process as the interpreter ends it, by one C function, without the classes that
  `ctypes` creates, 2 ms per task. Replacement: `ctypes`.
- ``_inheriting`` of multiprocessing's current process: whether it imports the program only to find a function in it.
  No replacement: a program without a guard starts a worker there, which ends with an error.
- ``_option_string_actions`` and ``_actions`` of a parser: options of the program that take the place of the worker's.
  Replacement: argparse reports the conflict.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    import socket

__all__ = [
    "end_threads",
    "exit_function_count",
    "exit_interpreter",
    "forget_event_loop",
    "forget_exit_functions",
    "is_imported_by_multiprocessing",
    "log_handlers",
    "names_in_use",
    "open_socket",
    "run_exit_functions",
    "set_signal",
    "set_signal_mask",
    "simple_queue",
    "sockets",
    "start_thread",
    "thread_count",
]

sockets: Any
"""The functions and constants of `socket`."""
try:
    import _socket as sockets
except ImportError:
    import socket as sockets

set_signal: Any = getattr(sys.modules.get("_signal"), "signal", signal.signal)
"""`signal.signal`, for plain integers."""
set_signal_mask: Any = getattr(sys.modules.get("_signal"), "pthread_sigmask", signal.pthread_sigmask)
"""`signal.pthread_sigmask`, likewise."""

exit_function_count: Callable[[], int] = getattr(atexit, "_ncallbacks", lambda: 1)
"""Returns the number of registered exit functions."""
start_thread: Callable[[Callable[..., Any], tuple[Any, ...]], int] = _thread.start_new_thread
"""Starts a function in a thread that nothing waits for."""
thread_count: Callable[[], int] = getattr(_thread, "_count", lambda: 1)
"""Returns the number of threads besides the main thread."""


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


def forget_exit_functions() -> list[Any]:
    """Drop exit functions, finalizers and child processes of this process, without calling any.

    Return the containers that hold a new entry once a task has something else to end than an exit function.
    """
    getattr(atexit, "_clear", lambda: None)()
    finalize: Any = getattr(sys.modules.get("weakref"), "finalize", None)
    for finalizer in list(getattr(finalize, "_registry", ())):
        finalizer.atexit = False
    if hasattr(finalize, "_registered_with_atexit"):
        # The next finalizer registers them all again.
        finalize._registered_with_atexit = False
    owned = [
        getattr(sys.modules.get(module), name, None)
        for module, name in (("multiprocessing.util", "_finalizer_registry"), ("multiprocessing.process", "_children"))
    ]
    containers: list[Any] = [container for container in owned if container is not None]
    for container in containers:
        container.clear()
    return [*containers, _handlers()] if "logging" in sys.modules else containers


def _handlers() -> list[Any]:
    """Return the list of references to all handlers of `logging`."""
    handlers: list[Any] = getattr(sys.modules.get("logging"), "_handlerList", [])
    return handlers


def log_handlers() -> list[Any]:
    """Return all handlers of `logging`."""
    return [handler for reference in _handlers() if (handler := reference()) is not None]


def end_threads() -> None:
    """End the threads of libraries and wait for all that are not daemons, as the interpreter does at its end."""
    threading: Any = sys.modules.get("threading")
    callbacks: list[Callable[[], Any]] = getattr(threading, "_threading_atexits", [])
    while callbacks:
        _attempt(callbacks.pop())
    if threading is not None:
        _attempt(getattr(threading, "_shutdown", lambda: None))


def run_exit_functions(inherited_handlers: list[Any]) -> None:
    """Run the exit functions and finalizers of this process, and shut down the handlers that are not inherited."""
    _attempt(getattr(atexit, "_run_exitfuncs", lambda: None))
    # Both are registered when their module is loaded, which may have been before the fork.
    _attempt(getattr(sys.modules.get("multiprocessing.util"), "_exit_function", lambda: None))
    own = [handler for handler in _handlers() if handler not in inherited_handlers]
    if own:
        _attempt(lambda: sys.modules["logging"].shutdown(own))


def _attempt(function: Callable[[], Any]) -> None:
    try:
        function()
    except BaseException:
        sys.excepthook(*sys.exc_info())


def exit_interpreter(code: int) -> None:
    """Finalize the interpreter and exit the process with a code."""
    try:
        from _ctypes import CFuncPtr, dlopen, dlsym
    except ImportError:
        import ctypes

        ctypes.pythonapi.Py_Exit(code)
        return
    # It is called as C code, with the interpreter's lock, as by `ctypes.pythonapi`.
    function: Any = type("Function", (CFuncPtr,), {"_flags_": 0x1 | 0x4, "_restype_": None})
    this_program: Any = None
    function(dlsym(dlopen(this_program, 0), "Py_Exit"))(code)


def is_imported_by_multiprocessing() -> bool:
    """Return whether a child process of multiprocessing imports the program, to find a function in it."""
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None:
        return False
    current = process.current_process()
    return hasattr(current, "_inheriting")
