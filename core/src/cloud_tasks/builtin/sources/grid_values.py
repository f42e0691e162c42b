r"""The values of one grid parameter: the text that was written, and what a task's data has for it.

``a,b`` lists values; ``1..9`` and ``1..9..2`` are ranges of whole numbers, ends included. A value in double or single
quotes is text of any characters; in them the quote itself is doubled. Elsewhere, and in double quotes, a backslash
before a comma, semicolon, blank, quote or backslash makes it an ordinary character.

The data of an unquoted value is a number, true, false or null if JSON writes it exactly so, and text otherwise. If that
makes text of one number of a parameter, as in ``1.9,1.10``, it does of all of them. A type decides instead: ``text``,
``int``, ``float``.

Invariants, each with a test:

1. The text of a value is the text that was written, without quotes, backslashes and the blanks around it.
2. Data that is not text has exactly that text in JSON, unless a type was given.
3. Of a range, only its bounds are kept.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from cloud_tasks.sanitize import MAX_DIGITS

__all__ = ["MAX_TASKS", "TYPES", "GridValueError", "GridValues"]

TYPES = ("text", "int", "float")
MAX_TASKS = 10**12
"""A larger range or grid is taken for a mistake."""

_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)(?:\.\.(-?[0-9]+))?")
_LIKE_A_RANGE = re.compile(
    r"[-+]?(?=\.*[0-9])[0-9.]+(?:[eE][-+]?[0-9]+)?\.\.(?:[-+]?[0-9.]|\Z)|\.\.[-+]?[0-9.]*[0-9]\Z"
)
_PADDED = re.compile(r"-?0[0-9]")
_LIKE_A_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_BACKSLASHED = re.compile(r"\\([,;\s\"'\\])")
_VALUE = re.compile(
    r"""[ \t]*(?:"(?P<double>(?:[^"\\]|\\.|"")*)"|'(?P<single>(?:[^']|'')*)'|(?P<plain>(?:\\.|[^,\\]|\\\Z)*))"""
    r"[ \t]*(?P<end>,|\Z)",
    re.DOTALL,
)
_STRIPPED = re.compile(r"[ \t]*((?:\\.|[^\\]|\\\Z)*?)[ \t]*\Z", re.DOTALL)
_MAX_BOUND_DIGITS = 18


class GridValueError(ValueError):
    """Values that are refused; the message is one line."""


@attrs.frozen
class _Item:
    """A value as written."""

    text: str
    is_literal: bool
    """Whether quotes or backslashes mark it as text."""

    @property
    def is_range(self) -> bool:
        return not self.is_literal and _RANGE.fullmatch(self.text) is not None


class GridValues:
    """Values of a parameter: for each index a pair of text and data.

    Args:
        written: Values, separated by commas.
        kind: One of `TYPES`; empty for the rule above.

    Raises:
        GridValueError: A value is empty, repeated or malformed, or does not fit the type.
    """

    def __init__(self, written: str, kind: str = "") -> None:
        items = _split(written)
        self._parts: list[Sequence[str]] = [_Range(item.text) if item.is_range else (item.text,) for item in items]
        self._literals = {item.text for item in items if item.is_literal}
        self._data = _data_function(items, kind)
        self.number = sum(map(len, self._parts))
        seen: set[str] = set()
        for item in items:
            if item.text in seen or (not item.is_range and any(item.text in part for part in self._ranges())):
                raise GridValueError(f'value "{item.text[:60]}" is given twice')
            seen.add(item.text)
            if not item.is_range:
                self._data(item.text, item.is_literal)

    def _ranges(self) -> list[_Range]:
        return [part for part in self._parts if isinstance(part, _Range)]

    def __getitem__(self, index: int) -> tuple[str, Any]:
        for part in self._parts:
            if index < len(part):
                text = part[index]
                return text, self._data(text, text in self._literals)
            index -= len(part)
        raise IndexError(index)


class _Range(Sequence[str]):
    """The texts of a range of whole numbers. With leading zeros in a bound, all have the length of the longer one."""

    def __init__(self, text: str) -> None:
        match = _RANGE.fullmatch(text)
        assert match is not None
        if any(len(bound.lstrip("-")) > _MAX_BOUND_DIGITS for bound in match.groups() if bound):
            raise GridValueError(f"the range {text[:60]} is too large")
        first, last = int(match[1]), int(match[2])
        step = int(match[3]) if match[3] else (1 if last >= first else -1)
        if step == 0 or (last - first) * step < 0:
            raise GridValueError(f"the range {text} is empty")
        if (last - first) // step >= MAX_TASKS:
            raise GridValueError(f"the range {text} is too large")
        self._numbers = range(first, last + (1 if step > 0 else -1), step)
        self.is_padded = bool(_PADDED.match(match[1]) or _PADDED.match(match[2]))
        self._width = max(len(match[1]), len(match[2])) if self.is_padded else 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return self._text(self._numbers[index])

    def __contains__(self, text: object) -> bool:
        if not isinstance(text, str) or not re.fullmatch(r"-?[0-9]{1,18}", text):
            return False
        return int(text) in self._numbers and self._text(int(text)) == text

    def _text(self, number: int) -> str:
        return f"{number:0{self._width}d}"


def _split(written: str) -> list[_Item]:
    items: list[_Item] = []
    position = 0
    while True:
        match = _VALUE.match(written, position)
        quote = written[position:].lstrip(" \t")[:1]
        if match is None or (quote in ('"', "'") and match["plain"] is not None):
            raise GridValueError(f"a closing quote ({quote}) is missing, or not followed by a comma")
        if match["plain"] is None:
            quoted = match["double"] if match["single"] is None else match["single"]
            text = quoted.replace(quote * 2, quote)
            if quote == '"':
                text = _unescaped(quoted.replace('""', '\\"'))
            items.append(_Item(text, is_literal=True))
        else:
            items.append(_plain_item(match["plain"]))
        position = match.end()
        if not match["end"]:
            return items


def _plain_item(written: str) -> _Item:
    match = _STRIPPED.match(written)
    stripped = match[1] if match is not None else ""
    if not stripped:
        raise GridValueError('a value is empty; write "" for empty text')
    text = _unescaped(stripped)
    is_literal = text != stripped
    if not is_literal and _LIKE_A_RANGE.match(text) and not _RANGE.fullmatch(text):
        raise GridValueError(f'"{text[:60]}" is not a range of whole numbers; list the values, or put it in quotes')
    return _Item(text, is_literal)


def _unescaped(text: str) -> str:
    return _BACKSLASHED.sub(r"\1", text)


def _data_function(items: Sequence[_Item], kind: str) -> Callable[[str, bool], Any]:
    """Return the function from a text, and whether it was marked as text, to its data."""
    if kind == "text":
        return lambda text, is_literal: text
    if kind:
        return lambda text, is_literal: _number(text, kind)
    numbers_are_text = any(_is_number_in_other_form(item) for item in items)

    def data(text: str, is_literal: bool) -> Any:
        if is_literal or not _is_kept(text):
            return text
        value = json.loads(text)
        return text if numbers_are_text and not (value is None or isinstance(value, bool)) else value

    return data


def _is_number_in_other_form(item: _Item) -> bool:
    """Return whether JSON would write a number differently: ``1.10``, ``1e5``, ``007``, ``01..12``."""
    if item.is_range:
        return _Range(item.text).is_padded
    return not item.is_literal and _LIKE_A_NUMBER.fullmatch(item.text) is not None and not _is_kept(item.text)


def _is_kept(text: str) -> bool:
    """Return whether JSON reads a number, true, false or null, and writes exactly the same text."""
    if text in ("true", "false", "null"):
        return True
    try:
        return len(text) <= MAX_DIGITS and bool(_LIKE_A_NUMBER.fullmatch(text)) and json.dumps(json.loads(text)) == text
    except ValueError:
        return False


def _number(text: str, kind: str) -> Any:
    try:
        if not _LIKE_A_NUMBER.fullmatch(text) or len(text) > MAX_DIGITS:
            raise ValueError(text)
        value: Any = int(text) if kind == "int" else float(text)
    except ValueError:
        name = "whole number" if kind == "int" else "number"
        raise GridValueError(f'expected a {name}, got "{text[:60]}"') from None
    if isinstance(value, float) and not math.isfinite(value):
        raise GridValueError(f'"{text[:60]}" is beyond the range of a double')
    return value
