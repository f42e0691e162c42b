"""Report of an exception in a task. Every task process has this module in memory, so its imports are light."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["describe", "failure", "text_of"]

_TEXT_LIMIT = 16 * 1024
_TRACE_LIMIT = 64 * 1024


def failure(error: BaseException) -> dict[str, Any]:
    """Return the head of the report of a function that raised; print the traceback."""
    import traceback

    try:
        # The first frame is the runner's.
        own = error.__traceback__
        trace = "".join(traceback.format_exception(type(error), error, own.tb_next if own is not None else None))
    except BaseException:
        trace = ""
    sys.stderr.write(trace)
    kinds = [kind.__name__ for kind in type(error).__mro__[:-2]]
    return {"error": type(error).__name__, "message": describe(error, name=False), "trace": trace[-_TRACE_LIMIT:]} | (
        {"kinds": kinds} if len(kinds) > 1 else {}
    )


def describe(error: BaseException, *, name: bool = True) -> str:
    """Return an exception's message, after the name of its class if ``name`` is true.

    An exception in its ``__str__`` is named instead of the message.
    """
    try:
        message = str(error)
    except BaseException as second:
        message = f"(no message: __str__ raised {type(second).__name__})"
    return text_of(f"{type(error).__name__}: {message}" if name else message)


def text_of(value: Any) -> str:
    """Return a value as text, truncated to 16 KiB of characters."""
    text = str(value)
    return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…"
