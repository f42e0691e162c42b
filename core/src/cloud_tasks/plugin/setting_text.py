"""Convert settings from and to text and plain values: one pair of functions for the controller and the worker.

The controller exports a setting with `format_setting`; both sides read it, and what a person typed into a variable or
an option, with `parse_setting`. Sequences and mappings are JSON; a sequence of plain items may also be words that
blanks or commas separate.

Invariants, each with a test:

1. ``parse_setting(format_setting(value, kind), kind) == value`` for every value of a supported kind; the empty text,
   an empty sequence and None stay apart from each other and from a variable that is not set.
2. No text raises anything but `ValueError`, with a message that reads well after ``section.key: ``.
3. What a file typed already has to have the right type: ``"8"`` is not a number, ``true`` is not a number.
"""

from __future__ import annotations

import enum
import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from cloud_tasks.booleans import BOOLEANS, parse_boolean
from cloud_tasks.model import Money
from cloud_tasks.plugin.setting_kinds import (
    base_of,
    choices,
    describe,
    is_fixed,
    is_mapping,
    is_optional,
    item_kinds,
    strip_optional,
    word_of,
)

__all__ = ["FLOAT", "INTEGER", "format_setting", "is_unset", "parse_setting", "split_words", "structure_setting"]

INTEGER = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*\Z")
FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")

_MICROSECOND = timedelta(microseconds=1)
_LONGEST = Decimal(timedelta.max.days * 86_400)
_PLAIN_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*\Z")
"""What a variable of a shell script carries unchanged, wherever the script is stored on its way."""


def is_unset(text: str | None) -> bool:
    """Whether a variable counts as not set: it is missing, or holds blanks at most."""
    return text is None or not text.strip()


def format_setting(value: Any, kind: Any) -> str:
    """Return a value as text for an environment variable. Raises `ValueError` where the value is not of the kind."""
    try:
        plain = _to_plain(value, kind)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"expected {describe(kind)}, got {value!r}") from error
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return "1" if plain else "0"
    if isinstance(plain, list | dict):
        return json.dumps(plain)
    return _quoted(plain, kind) if isinstance(plain, str) else str(plain)


def parse_setting(text: str, kind: Any, *, read: Callable[[str], Any] | None = None) -> Any:
    """Return the value that a text stands for.

    Args:
        read: Reads the text of a mapping or a nested list that is not JSON (the configuration: YAML); None: JSON only.

    Raises:
        ValueError: The text stands for no value of this kind.
    """
    if is_optional(kind) and text.strip() in ("", "null"):
        return None
    base = strip_optional(kind)
    if items := item_kinds(base):
        return _parse_sequence(text, base, items, read)
    if is_mapping(base) or hasattr(base, "from_plain"):
        return structure_setting(_read(text, base, read), base, from_text=True)
    return structure_setting(_unquoted(text, kind), base, from_text=True)


def _parse_sequence(text: str, base: Any, items: tuple[Any, ...], read: Callable[[str], Any] | None) -> Any:
    nested = any(item_kinds(item) or is_mapping(item) or hasattr(strip_optional(item), "from_plain") for item in items)
    if not nested:
        # Of words that look like JSON ("[12]" as a pattern) those are JSON whose items have the right type.
        try:
            found = _read_json(text)
            if isinstance(found, list):
                return structure_setting(found, base, from_text=True)
        except ValueError as error:
            start, is_closed = text.lstrip()[:2], text.rstrip().endswith("]")
            if start == '["' or (start[:1] == "[" and is_closed and str not in map(strip_optional, items)):
                raise ValueError(f"{_shown(text)} is not a JSON list of the right values: {error}") from error
        may_be_none = all(map(is_optional, items))
        words = [None if may_be_none and word == "null" else word for word in split_words(text)]
        return structure_setting(words, base, from_text=True)
    found = _read(text, base, read)
    return structure_setting([found] if isinstance(found, Mapping) else found, base, from_text=True)


def _read(text: str, kind: Any, read: Callable[[str], Any] | None) -> Any:
    try:
        return _read_json(text)
    except ValueError as error:
        if read is not None:
            return read(text)
        raise ValueError(f"expected {describe(kind)} as JSON, got {_shown(text)}: {error}") from error


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is written twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a number")


def split_words(text: str) -> list[str]:
    """Words separated by spaces or commas; a comma inside brackets, as in ``n[1,2]-.{1,3}``, separates nothing."""
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


# -- text that needs quotes ----------------------------------------------------------------------------------------


def _quoted(text: str, kind: Any) -> str:
    """Write a text as JSON where it would be read as something else, or might not arrive as it is."""
    return json.dumps(text) if _needs_quotes(text, is_optional(kind)) else text


def _unquoted(text: str, kind: Any) -> str:
    inner = _inner(text)
    return inner if inner is not None and _needs_quotes(inner, is_optional(kind)) else text


def _needs_quotes(text: str, optional: bool) -> bool:
    if not text.strip() or not _PLAIN_TEXT.match(text) or (optional and text.strip() == "null"):
        return True
    inner = _inner(text)
    return inner is not None and _needs_quotes(inner, optional)


def _inner(text: str) -> str | None:
    """The text that this one quotes, exactly as `_quoted` does it; None: it is not a quoted text."""
    if not (len(text) > 1 and text[0] == text[-1] == '"'):
        return None
    try:
        inner = json.loads(text)
    except ValueError:
        return None
    return inner if isinstance(inner, str) and json.dumps(inner) == text else None


# -- plain values to typed ones, and back --------------------------------------------------------------------------


def structure_setting(value: Any, kind: Any, *, from_text: bool = False) -> Any:
    """Return the typed value of a plain one, as YAML or JSON give it.

    Args:
        from_text: The value was written where only text can be, so that a text is read as its kind asks.

    Raises:
        ValueError: The value is not of the kind.
    """
    base = strip_optional(kind)
    if value is None and is_optional(kind):
        return None
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
    raise ValueError(f"{_shown(value)} is not one of {', '.join(words)}")


def _structure_scalar(value: Any, base: Any, from_text: bool) -> Any:
    if base is bool:
        if from_text and isinstance(value, str):
            return parse_boolean(value)
        return value if isinstance(value, bool) else _refuse(base, value)
    if base is str:
        return value if isinstance(value, str) else _refuse(base, value)
    if base is Path:
        return Path(value) if isinstance(value, str | Path) and str(value) else _refuse(base, value)
    if base in (int, float, Decimal, Money, timedelta):
        return _structure_number(value, base, from_text)
    return value


def _structure_number(value: Any, base: Any, from_text: bool) -> Any:
    if isinstance(value, base) and not isinstance(value, bool | float):
        return value
    word = value.strip() if isinstance(value, str) else ""
    if (from_text or base is Decimal) and FLOAT.match(word):
        number: Any = int(word) if INTEGER.match(word) else _decimal(word)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value if isinstance(value, int) else Decimal(str(value))
    else:
        raise _refusal(base, value)
    if base is int:
        return number if isinstance(number, int) else _refuse(base, _number_shown(value))
    if base is Decimal:
        return Decimal(number) if Decimal(number).is_finite() else _refuse(base, value)
    try:
        real = float(number)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real) or (base is timedelta and abs(real) > _LONGEST):
        raise ValueError(f"expected {describe(base)}, got one that is too large")
    if base is float:
        return real
    return Money(number) if base is Money else _seconds(Decimal(number))


def _decimal(word: str) -> Decimal:
    try:
        return Decimal(word.replace("_", ""))
    except ArithmeticError as error:
        raise ValueError("expected a number, got one that is too large") from error


def _seconds(number: Decimal) -> timedelta:
    return timedelta(microseconds=int((number * 1_000_000).to_integral_value()))


def _to_plain(value: Any, kind: Any) -> Any:
    """The value as JSON knows it, exactly: numbers that JSON would round are text."""
    base = strip_optional(kind)
    if value is None:
        if not is_optional(kind):
            raise TypeError
        return None
    if items := item_kinds(base):
        kinds = items if is_fixed(base) else items * len(value)
        return [_to_plain(item, each) for item, each in zip(value, kinds, strict=True)]
    if is_mapping(base):
        _, item = typing.get_args(base)
        return {key: _to_plain(each, item) for key, each in value.items()}
    if words := choices(base):
        word = word_of(value)
        member = words[word]
        return word if isinstance(member, str | enum.Enum) else member
    if base is bool or base is str:
        if not isinstance(value, base):
            raise TypeError
        return value
    if base is Path:
        return str(value)
    if base is timedelta:
        text = str(value.total_seconds())
        # A float cannot hold the microseconds of several centuries.
        return text if _seconds(Decimal(text)) == value else _exact(Decimal(value // _MICROSECOND).scaleb(-6))
    if base is float:
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


# -- messages ------------------------------------------------------------------------------------------------------


def _refuse(kind: Any, value: Any) -> Any:
    raise _refusal(kind, value)


def _refusal(kind: Any, value: Any) -> ValueError:
    advice = ""
    if kind in (str, Path) and isinstance(value, bool | int | float):
        advice = "; put it in quotes"
    return ValueError(f"expected {describe(kind)}, got {_shown(value)}{advice}")


def _number_shown(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else str(value)
