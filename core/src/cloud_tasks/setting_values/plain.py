"""Settings as plain values: convert what YAML or JSON hold to typed values, and typed values back.

Invariants, each with a test:

1. Values of a file must have the right type: ``"8"`` is not a number, ``true`` is not a number. Only a duration may be
   text, with its unit: ``10m``.
2. A number is within the bounds of its kind, and no text has a NUL character: what every use of a value can take.
3. Every refusal is a `ValueError` whose message reads well after ``section.key: `` and shows the expected form.
"""

from __future__ import annotations

import enum
import math
import re
import typing
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from cloud_tasks.booleans import BOOLEANS, parse_boolean
from cloud_tasks.duration_text import parse_duration
from cloud_tasks.model import Money
from cloud_tasks.sanitize import MAX_DIGITS
from cloud_tasks.setting_values.kinds import (
    CountOrShare,
    Seconds,
    SecondsOrUnlimited,
    base_of,
    choices,
    expected,
    is_fixed,
    is_mapping,
    is_optional,
    item_kinds,
    strip_optional,
    word_of,
)

__all__ = ["FLOAT", "INTEGER", "quote_value", "split_words", "structure_setting", "unstructure_setting"]

INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")
_OTHER_NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO]?[0-9_]+|0[bB][01_]+|[0-9][0-9_:]*|\.inf|\.nan)[0-9_.eE]*\Z"
)
"""Numbers as YAML 1.1 and other languages write them: leading zeros (octal?), hexadecimal, base 60, infinite."""

UNLIMITED = "unlimited"
"""The text of an infinite duration."""
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = Decimal(3650 * 86_400)
_SHORTEST = Decimal("0.999e-6")
"""A microsecond, which as a float is a little less."""
_LARGEST: Mapping[Any, Decimal] = {
    int: Decimal(10**15),
    float: Decimal(10**15),
    Decimal: Decimal(10**15),
    Money: Decimal(10**12),
}
"""Of a byte count, a size in GB and the like; of an amount."""
_NUMBERS = (*_LARGEST, Seconds, SecondsOrUnlimited, timedelta)
_SMALLEST = Decimal("1e-12")
"""Of numbers other than 0; their reciprocals and products are finite."""


def structure_setting(value: Any, kind: Any, *, from_text: bool = False) -> Any:
    """Return the typed value of a plain one, as read from YAML or JSON.

    Args:
        from_text: Whether the value comes from a variable or an option, where every value is text.

    Raises:
        ValueError: The value is not of the kind.
    """
    base = strip_optional(kind)
    if value is None and is_optional(kind):
        return None
    if _has_nul(value):
        raise ValueError("the text contains a NUL character; remove it")
    if items := item_kinds(base):
        return _structure_sequence(value, base, items, from_text)
    if is_mapping(base):
        if not isinstance(value, Mapping):
            raise _refusal(base, value)
        _, item = typing.get_args(base) or (str, str)
        return {str(key): _named(key, each, item, from_text) for key, each in value.items()}
    if hasattr(base, "from_plain"):
        if not isinstance(value, Mapping):
            raise _refusal(base, value)
        return base.from_plain(value)
    if words := choices(base):
        return _choose(value, base, words, from_text)
    return _structure_scalar(value, base, from_text)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(map(_has_nul, (*value.keys(), *value.values())))
    return isinstance(value, list | tuple) and any(map(_has_nul, value))


def _structure_sequence(value: Any, base: Any, items: tuple[Any, ...], from_text: bool) -> Any:
    if isinstance(value, str):
        value = split_words(value)
    if not isinstance(value, list | tuple):
        raise _refusal(base, value)
    if is_fixed(base) and len(value) != len(items):
        raise ValueError(f"expected {len(items)} values, got {len(value)}")
    kinds = items if is_fixed(base) else items * len(value)
    found = [structure_setting(item, kind, from_text=from_text) for item, kind in zip(value, kinds, strict=True)]
    return found if base_of(base) is list else tuple(found)


def _named(key: Any, value: Any, kind: Any, from_text: bool) -> Any:
    try:
        return structure_setting(value, kind, from_text=from_text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _choose(value: Any, base: Any, words: Mapping[str, Any], from_text: bool) -> Any:
    for member in words.values():
        if type(member) is type(value) and member == value:
            return member
    word, is_literal = word_of(value), typing.get_origin(base) is Literal
    # In a file, the number 1 is not the text "1" of a Literal.
    usable = words if from_text or not is_literal else {k: v for k, v in words.items() if isinstance(v, enum.Enum)}
    for one in (word, word.strip()):
        if one in usable:
            return usable[one]
    if is_literal:
        truth = BOOLEANS.get(word.strip().lower()) if from_text else None
        if truth is not None and words.get(word_of(truth)) is truth:
            return truth
    else:
        found = [member for name, member in words.items() if name.lower() == word.strip().lower()]
        if len(found) == 1:
            return found[0]
    raise ValueError(f"{quote_value(value)} is not one of {', '.join(words)}")


def _structure_scalar(value: Any, base: Any, from_text: bool) -> Any:
    if base is bool:
        if from_text and isinstance(value, str):
            return parse_boolean(value)
        return value if isinstance(value, bool) else _refuse(base, value)
    if base is str:
        return value if isinstance(value, str) else _refuse(base, value)
    if base is CountOrShare:
        is_text = isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
        return CountOrShare(value) if is_text else _refuse(base, value)
    if base is Path:
        return Path(value) if isinstance(value, str | Path) and str(value) else _refuse(base, value)
    if base is timedelta and isinstance(value, timedelta):
        return value
    if base == SecondsOrUnlimited and isinstance(value, str) and value.strip().lower() == UNLIMITED:
        return math.inf
    if base in (Seconds, SecondsOrUnlimited, timedelta):
        return _structure_duration(value, base, from_text)
    return _structure_number(value, base, from_text) if base in (int, float, Decimal, Money) else value


def _structure_duration(value: Any, base: Any, from_text: bool) -> Any:
    """Return a duration of a number of seconds, or of text with its unit."""
    if isinstance(value, str) and not (from_text and FLOAT.match(value.strip())):
        try:
            value = parse_duration(value)
        except ValueError:
            raise _refusal(base, value) from None
    number = _number(value, base, from_text)
    real = _real(number, base)
    if abs(real) > _LONGEST:
        raise _too_large(base)
    if 0 < abs(real) < _SHORTEST:
        raise _too_small(base)
    return real if base in (Seconds, SecondsOrUnlimited) else _timedelta(Decimal(number))


def _structure_number(value: Any, base: Any, from_text: bool) -> Any:
    number: Any
    if isinstance(value, Money):
        value = value.usd if base is Money else value
    number = value if isinstance(value, Decimal) else _number(value, base, from_text or base is Decimal)
    if base is int:
        if not isinstance(number, int):
            return _refuse(base, float(value) if isinstance(value, str) else value)
    elif base is Decimal and not Decimal(number).is_finite():
        return _refuse(base, value)
    real = None if base in (int, Decimal) else _real(number, base)
    if abs(number) > _LARGEST[base]:
        raise _too_large(base)
    if 0 < abs(number) < _SMALLEST:
        raise _too_small(base)
    return Money(number) if base is Money else base(number) if real is None else real


def _number(value: Any, base: Any, from_text: bool) -> int | Decimal:
    """Return the exact number of a plain value."""
    word = value.strip() if isinstance(value, str) else ""
    if from_text and FLOAT.match(word):
        if len(word) > MAX_DIGITS:
            raise _too_large(base)
        if INTEGER.match(word):
            return int(word)
        try:
            return Decimal(word)
        except ArithmeticError as error:
            raise _too_large(base) from error
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if isinstance(value, int) else Decimal(str(value))
    raise _refusal(base, value)


def _real(number: int | Decimal, base: Any) -> float:
    """Return the nearest finite float."""
    try:
        real = float(number)
    except OverflowError:
        real = math.inf
    if math.isnan(real):
        raise _refusal(base, real)
    if math.isinf(real):
        raise _too_large(base)
    return real


def _timedelta(number: Decimal) -> timedelta:
    return timedelta(microseconds=int((number * 1_000_000).to_integral_value()))


def unstructure_setting(value: Any, kind: Any) -> Any:
    """Return the exact plain value of a typed one; numbers that JSON would round are text.

    Raises:
        ValueError, TypeError, AttributeError, KeyError: The value is not of the kind.
    """
    base = strip_optional(kind)
    if value is None:
        if not is_optional(kind):
            raise TypeError
        return None
    if items := item_kinds(base):
        kinds = items if is_fixed(base) else items * len(value)
        return [unstructure_setting(item, each) for item, each in zip(value, kinds, strict=True)]
    if is_mapping(base):
        _, item = typing.get_args(base)
        return {key: unstructure_setting(each, item) for key, each in value.items()}
    if words := choices(base):
        word = word_of(value)
        member = words[word]
        return word if isinstance(member, str | enum.Enum) else member
    return _unstructure_scalar(value, base)


def _unstructure_scalar(value: Any, base: Any) -> Any:
    if base is bool or base is str:
        if not isinstance(value, base):
            raise TypeError
        return value
    if base in (Path, CountOrShare):
        return str(value)
    if base is timedelta:
        text = str(value.total_seconds())
        # A float cannot hold the microseconds of several centuries.
        return text if _timedelta(Decimal(text)) == value else _exact(Decimal(value // _MICROSECOND).scaleb(-6))
    if base == SecondsOrUnlimited and value == math.inf:
        return UNLIMITED
    if base in (float, Seconds, SecondsOrUnlimited):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be written as a number")
        return float(value)
    if base is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        return value
    return _exact(value.usd if base is Money else value)


def _exact(number: Decimal) -> str:
    if not isinstance(number, Decimal) or not number.is_finite():
        raise TypeError
    return str(number)


def _refuse(kind: Any, value: Any) -> Any:
    raise _refusal(kind, value)


def _refusal(kind: Any, value: Any) -> ValueError:
    remedy = "; put it in quotes" if kind in (str, Path) and isinstance(value, bool | int | float) else ""
    text = value.strip() if isinstance(value, str) and kind in _NUMBERS else ""
    if _OTHER_NUMBER.match(text) and not FLOAT.match(text):
        remedy = f"; write {_in_digits(text, INTEGER if kind is int else FLOAT)}"
    return ValueError(f"expected {expected(kind)}, got {quote_value(value)}{remedy}")


def _in_digits(text: str, pattern: re.Pattern[str]) -> str:
    """Return a number of another notation as `pattern` matches it, or a general remedy."""
    digits = text.replace("_", "")[:60]
    try:
        digits = str(int(digits, 0))
    except ValueError:
        digits = re.sub(r"(?<![0-9.])0+(?=[0-9])", "", digits)
    return digits if pattern.match(digits) and len(text) <= 60 else "it in decimal digits"


def _too_large(kind: Any) -> ValueError:
    return ValueError(f"expected {expected(kind)}, got one that is too large")


def _too_small(kind: Any) -> ValueError:
    return ValueError(f"expected {expected(kind)}, got one that is too close to 0")


def quote_value(value: Any) -> str:
    """Return a plain value for an error message: text in quotes and shortened, containers by their kind."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else str(value)


def split_words(text: str) -> list[str]:
    """Return the words between blanks and commas; commas in brackets are part of a word, as in ``n[1,2]-.{1,3}``."""
    words: list[str] = []
    word, depth = "", 0
    for letter in text:
        depth = max(0, depth + (letter in "([{") - (letter in ")]}"))
        if letter.isspace() or (letter == "," and not depth):
            words.append(word)
            word = ""
        else:
            word += letter
    words.append(word)
    return [found for found in words if found]
