"""The gate for values from outside: text, numbers, times and JSON become encodable, bounded and typed here.

Whatever a task, a worker, a queue, a file or a person sends passes one of these functions before any other code sees
it. Standard library only, and light: task processes load this module.

Invariants, each with a test:

1. Whatever the input, a function returns or raises `UnusableValueError`, nothing else.
2. Text that passed can be encoded as UTF-8. A value that passed can be encoded as strict JSON, and decoded again, by
   every supported interpreter, at any depth of its stack that the program reaches.
3. A value that is in order passes unchanged.
4. What `check_value` accepts is decoded from its JSON as it was, tuples as lists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Workers with a task file load this module, and have no other use for it.
    from datetime import datetime

__all__ = [
    "MAX_DEPTH",
    "MAX_DIGITS",
    "UnusableValueError",
    "as_bytes",
    "check_value",
    "clean_text",
    "clean_value",
    "finite_seconds",
    "plausible_time",
    "shown_value",
    "type_name",
    "whole_number",
]

MAX_DEPTH = 200
"""Levels of lists and objects in a value. CPython 3.11 stops at less than 1,000 minus the depth of the call stack."""

MAX_DIGITS = 1000
"""Decimal digits of an integer. Interpreters refuse more than 4,300 by default; the limit can be set down to 640, in
which case the encoder's refusal counts."""

_MAX_BITS = 3321
"""Bits that every integer of at most `MAX_DIGITS` digits may have; some have one more."""
_TOO_LARGE = 10**MAX_DIGITS


class UnusableValueError(ValueError):
    """A value from outside that cannot be stored, encoded or understood; the message is one line."""


def clean_text(text: str, limit: int | None = None) -> str:
    r"""Return text that can be encoded: a lone surrogate, as in a file name that is not UTF-8, becomes ``\udcff``.

    Args:
        limit: Maximum number of characters; longer text is cut and ends with an ellipsis.
    """
    if limit is not None and len(text) > limit:
        text = text[: max(0, limit - 1)] + "…"
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def clean_value(value: Any, *, keep_nonfinite: bool = False) -> Any:
    """Return a JSON value with clean text; NaN and infinities become the texts ``NaN``, ``Infinity``, ``-Infinity``.

    Args:
        keep_nonfinite: Whether NaN and infinities are left as they are, for values that stay in Python.

    Raises:
        UnusableValueError: Deeper than `MAX_DEPTH`, an integer of more than `MAX_DIGITS` digits, two keys that are one
            when clean, or of a type that JSON does not have.
    """
    return _clean(value, MAX_DEPTH, keep_nonfinite)


def shown_value(value: Any) -> Any:
    """Return a value for a report or export: as `clean_value`, or a text that names why the value is not shown."""
    try:
        return clean_value(value)
    except UnusableValueError as error:
        return f"not shown: {error}"


def _clean(value: Any, depth: int, keep_nonfinite: bool) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else clean_text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        if value.bit_length() > _MAX_BITS and abs(value) >= _TOO_LARGE:
            raise UnusableValueError(f"an integer of more than {MAX_DIGITS:,} digits")
        return value
    if kind is float:
        return value if keep_nonfinite or math.isfinite(value) else _nonfinite_text(value)
    if not isinstance(value, (dict, list, tuple)):
        return _clean_subclass(value, depth, keep_nonfinite)
    if depth == 0:
        raise UnusableValueError(f"nested deeper than {MAX_DEPTH} levels")
    if not isinstance(value, dict):
        return [_clean(entry, depth - 1, keep_nonfinite) for entry in value]
    cleaned = {}
    for key, entry in value.items():
        if type(key) is not str:
            raise UnusableValueError(f"a key of the type {type(key).__name__}; the keys of JSON are text")
        cleaned[key if key.isascii() else clean_text(key)] = _clean(entry, depth - 1, keep_nonfinite)
    if len(cleaned) != len(value):
        raise UnusableValueError("two keys that differ only in characters that cannot be encoded")
    return cleaned


def _clean_subclass(value: Any, depth: int, keep_nonfinite: bool) -> Any:
    """Return a value of a subclass, such as an `enum.IntEnum`, as its JSON type; refuse any other type."""
    if isinstance(value, str):
        return clean_text(str.__str__(value))
    if isinstance(value, (int, float)):
        plain = int.__int__(value) if isinstance(value, int) else float.__float__(value)
        return _clean(plain, depth, keep_nonfinite)
    raise UnusableValueError(f"a value of the type {type(value).__name__}, which JSON does not have")


def _nonfinite_text(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def as_bytes(value: object) -> bytes:
    """Return a message body: bytes unchanged, text as UTF-8, any other value as its text."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:
        text = type_name(value)
    return text.encode("utf-8", "backslashreplace")


def check_value(value: Any, *, depth: int = MAX_DEPTH) -> None:
    """Refuse a value that JSON, or a later `clean_value`, would change. NaN and infinities are accepted, tuples too.

    Args:
        depth: Levels of lists and objects allowed.

    Raises:
        UnusableValueError: As `clean_value`, and for text with lone surrogates. The message begins with the place of
            the value inside the whole, such as ``.parts[3].size: ``, if that is not the whole itself.
    """
    try:
        _check(value, depth)
    except _MisplacedError as error:
        place = clean_text("".join(reversed(error.path)), 120)
        raise UnusableValueError(f"{place}: {error}" if place else str(error)) from None


class _MisplacedError(UnusableValueError):
    """A value that `check_value` refuses, with the keys and positions that lead to it, innermost first."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path: list[str] = []


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is bool or value is None or isinstance(value, float):
        return
    if isinstance(value, str):
        if not value.isascii() and clean_text(value) != value:
            raise _MisplacedError(f"text that is not valid Unicode ({_shown(value)})")
    elif isinstance(value, int):
        if value.bit_length() > _MAX_BITS and abs(value) >= _TOO_LARGE:
            raise _MisplacedError(f"an integer of more than {MAX_DIGITS:,} digits")
    elif not isinstance(value, (dict, list, tuple)):
        raise _MisplacedError(f"a value of the type {type_name(value)}, which JSON does not have")
    elif depth == 0:
        raise UnusableValueError(f"nested deeper than {MAX_DEPTH} levels")
    else:
        _check_entries(value, depth)


def _check_entries(value: Any, depth: int) -> None:
    is_object = isinstance(value, dict)
    entries: Iterable[tuple[Any, Any]] = value.items() if is_object else enumerate(value)
    for key, entry in entries:
        if is_object and not isinstance(key, str):
            raise _MisplacedError(f"a key of the type {type_name(key)} ({_shown(key)}); the keys of JSON are text")
        if is_object and not key.isascii() and clean_text(key) != key:
            raise _MisplacedError(f"a key that is not valid Unicode ({_shown(key)})")
        try:
            _check(entry, depth - 1)
        except _MisplacedError as error:
            error.path.append(f".{key}" if is_object else f"[{key}]")
            raise


def type_name(value: Any) -> str:
    """Return the name of a value's type for an error: ``set``, ``numpy.int64``, ``pathlib.PosixPath``."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def whole_number(value: Any, *, low: int, high: int) -> int:
    """Return an integer from ``low`` to ``high``. Also accepts a float without a fraction, and decimal text.

    Raises:
        UnusableValueError: Any other value.
    """
    number = value
    if type(value) is float and math.isfinite(value) and value == int(value):
        number = int(value)
    elif isinstance(value, str) and len(value) <= 20 and value.lstrip("-").isdecimal() and value.isascii():
        try:
            number = int(value)
        except ValueError:
            number = None
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise UnusableValueError(f"{_shown(value)} is no whole number from {low:,} to {high:,}")
    return int(number)


def finite_seconds(value: Any) -> float | None:
    """Return a finite, non-negative number of seconds; None for anything else: a duration that is unknown."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= 1e10 else None


def plausible_time(value: Any) -> datetime | None:
    """Return the time of an ISO 8601 text, UTC if it names no zone; None if unreadable or not from 2000 to 2199."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(value)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return when if 2000 <= when.year < 2200 else None


def _shown(value: Any) -> str:
    """Return a value for a message, in one line of bounded length."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of many digits"
    try:
        return clean_text(repr(value), 60)
    except (ValueError, RecursionError):
        return f"a value of the type {type(value).__name__}"
