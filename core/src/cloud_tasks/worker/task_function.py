"""The user's function as task processes call it: checked once, before the first task.

Invariants, each with a test:

1. A function whose call would not run its body (a generator function) is refused.
2. An ``async`` function runs to its end in an event loop of its own, whichever process calls it. The threads of that
   loop's executor have the time of any other thread: they end after the result is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.worker.common.worker_data import WorkerData
from cloud_tasks.worker.task_process.function_call import Function

__all__ = ["adapt_function", "check_callback"]

_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200
"""Flags of code objects, as in `inspect`, whose import every task process would have in memory."""


def adapt_function(function: Any, returns: str) -> Function:
    """Return the function that task processes call.

    Args:
        function: The user's function, method, partial or callable object; may be ``async``.
        returns: ``pair``, or ``value`` if a returned pair of a boolean and a value is the result itself.

    Raises:
        InputError: The function cannot be called, or is a generator function; or ``returns`` has another value.
    """
    if returns not in ("pair", "value"):
        raise InputError(f'expected "pair" or "value", got {returns!r}', where="Worker: returns")
    flags = _flags(function, "Worker: function")
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if flags & (_GENERATOR | _ASYNC_GENERATOR):
        raise InputError(
            f"{name} is a generator function, whose body would not run",
            where="Worker: function",
            hint="return a list, or pass a function that consumes the generator",
        )
    adapted: Function = function
    if flags & _COROUTINE or _wraps_coroutine(function):
        adapted = _run_async(adapted)
    return _return_value(adapted) if returns == "value" else adapted


def check_callback(callback: Any, name: str) -> None:
    """Check a function that is called once, such as ``worker_init``.

    Raises:
        InputError: It cannot be called, or its call would not run its body.
    """
    if callback is not None and _flags(callback, f"Worker: {name}") & (_GENERATOR | _COROUTINE | _ASYNC_GENERATOR):
        raise InputError("async and generator functions are not supported here", where=f"Worker: {name}")


def _flags(function: Any, where: str) -> int:
    """Return the flags of the code that a call of the function runs; 0 if it has none, as built-in functions."""
    if not callable(function):
        raise InputError(f"expected a function, got {type(function).__name__}", where=where)
    while not hasattr(function, "__code__"):
        if isinstance(function, partial):
            function = function.func
        elif hasattr(function, "__func__"):
            function = function.__func__
        elif isinstance(function, type) or not hasattr(type(function).__call__, "__code__"):
            return 0
        else:
            function = type(function).__call__
    return int(function.__code__.co_flags)


def _wraps_coroutine(function: Any) -> bool:
    """Return whether a decorated function may return a coroutine, because the function that it wraps does."""
    while isinstance(function, partial):
        function = function.func
    for _ in range(100):
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return False
        if callable(function) and _flags(function, "") & _COROUTINE:
            return True
    return False


def _run_async(function: Callable[..., Any]) -> Function:
    # Here, so that it is imported once and not in each task process.
    import asyncio

    async def leave_threads(timeout: float | None = None) -> None:
        """Do nothing, in place of waiting for the threads of the executor."""

    async def outcome_of(coroutine: Any) -> tuple[BaseException | None, Any]:
        """Return what the coroutine raises and returns: asyncio handles some exceptions in ways of its own."""
        try:
            return None, await coroutine
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return error, None

    def run(task_id: str, task_data: dict[str, Any], data: WorkerData) -> Any:
        returned = function(task_id, task_data, data)
        if not asyncio.iscoroutine(returned):
            return returned
        with asyncio.Runner() as runner:
            setattr(runner.get_loop(), "shutdown_default_executor", leave_threads)  # noqa: B010
            error, value = runner.run(outcome_of(returned))
        if error is not None:
            raise error
        return value

    return run


def _return_value(function: Function) -> Function:
    return lambda task_id, task_data, data: (False, function(task_id, task_data, data))
