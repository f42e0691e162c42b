"""Report of an exception in a task. Every task process has this module in memory, so its imports are light."""

from __future__ import annotations

import sys
from typing import Any

from cloud_tasks.errors import Retry

__all__ = ["describe", "failure", "retry_request", "text_of"]

_TEXT_LIMIT = 16 * 1024
_TRACE_LIMIT = 64 * 1024
_OWN_MODULES = ("cloud_tasks.worker.", "asyncio.")


def failure(error: BaseException) -> dict[str, Any]:
    """Return the head of the report of a function that raised; print the traceback."""
    import traceback

    try:
        trace = "".join(traceback.format_exception(type(error), error, _user_frames(error)))
        trace = _encodable(trace)
    except BaseException:
        trace = ""
    sys.stderr.write(trace)
    kinds = [kind.__name__ for kind in type(error).__mro__[:-2]]
    return {"error": type(error).__name__, "message": describe(error, name=False), "trace": trace[-_TRACE_LIMIT:]} | (
        {"kinds": kinds} if len(kinds) > 1 else {}
    )


def _user_frames(error: BaseException) -> Any:
    """Return the traceback from the first frame of the user's code; all of it if there is none."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(_OWN_MODULES):
        frame = frame.tb_next
    return frame or error.__traceback__


def retry_request(request: Retry) -> dict[str, Any]:
    """Return the head of the report of a function that raised `Retry`, or of its failure if the request is invalid."""
    try:
        # A subclass may have set the attributes without the checks of the constructor.
        checked = Retry(request.reason, after=request.after)
        return {"retry": True, "reason": text_of(checked.reason), "after": checked.after}
    except BaseException as error:
        return failure(error)


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
    return _encodable(text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…")


def _encodable(text: str) -> str:
    if text.isascii():
        return text
    from cloud_tasks.sanitize import clean_text

    return clean_text(text)
