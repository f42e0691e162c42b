"""What a task process says of an exception. Light: every task process has it."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["describe", "failure", "text_of"]

_TEXT_LIMIT = 16 * 1024
_TRACE_LIMIT = 64 * 1024


def failure(error: BaseException) -> dict[str, Any]:
    """The head of the report of a function that raised; its traceback is printed, too."""
    import traceback

    try:
        # The first frame is ours.
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
    """Its message, after its class's name; one that raises when asked is passed over."""
    try:
        message = str(error)
    except BaseException as second:
        message = f"(its message cannot be had: {type(second).__name__})"
    return text_of(f"{type(error).__name__}: {message}" if name else message)


def text_of(value: Any) -> str:
    """As text, cut where it is very long."""
    text = str(value)
    return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…"
