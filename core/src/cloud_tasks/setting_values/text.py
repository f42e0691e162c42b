"""Settings as text in environment variables and options: one pair of functions for the controller and the worker.

The controller exports a setting with `format_setting`. Both sides read exported and typed text with `parse_setting`.
Sequences and mappings are JSON; a sequence of simple items may also be words, separated by blanks or commas.

Invariants, each with a test:

1. ``parse_setting(format_setting(value, kind), kind) == value`` for every value of a supported kind; the empty text,
   an empty sequence and None differ from each other and from a variable that is not set.
2. A text raises nothing but `ValueError`, with a message that reads well after ``section.key: ``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from cloud_tasks.setting_values.kinds import (
    describe,
    expected,
    is_mapping,
    is_optional,
    item_kinds,
    strip_optional,
)
from cloud_tasks.setting_values.plain import quote_value, split_words, structure_setting, unstructure_setting

__all__ = ["format_setting", "is_unset", "parse_setting"]

_PLAIN_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*\Z")
"""Text that every storage of a startup script keeps unchanged in a variable."""


def is_unset(text: str | None) -> bool:
    """Return whether a variable counts as not set: missing, empty or blank."""
    return text is None or not text.strip()


def format_setting(value: Any, kind: Any) -> str:
    """Return a value as text for an environment variable. Raises `ValueError` if it is not of the kind."""
    try:
        plain = unstructure_setting(value, kind)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"expected {expected(kind)}, got {value!r}") from error
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return "1" if plain else "0"
    if isinstance(plain, list | dict):
        return json.dumps(plain)
    return _quoted(plain, kind) if isinstance(plain, str) else str(plain)


def parse_setting(text: str, kind: Any, *, read: Callable[[str], Any] | None = None) -> Any:
    """Return the value of a text.

    Args:
        read: Reader of mappings and nested lists that are not JSON (the configuration's: YAML); None: JSON only.

    Raises:
        ValueError: The text is not a value of this kind.
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
        # A text in brackets is JSON if its items have the right type, else words: "[12]" may be a pattern.
        try:
            found = _read_json(text)
            if isinstance(found, list):
                return structure_setting(found, base, from_text=True)
        except ValueError as error:
            start, is_closed = text.lstrip()[:2], text.rstrip().endswith("]")
            if start == '["' or (start[:1] == "[" and is_closed and str not in map(strip_optional, items)):
                raise ValueError(f"{quote_value(text)} is not a valid JSON list: {error}") from error
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
        raise ValueError(f"expected {describe(kind)} as JSON, got {quote_value(text)}: {error}") from error


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a number")


def _quoted(text: str, kind: Any) -> str:
    """Return a text, as JSON if it would otherwise be read as something else or change on its way."""
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
    """Return the text that `_quoted` turned into this one; None if it did not."""
    if not (len(text) > 1 and text[0] == text[-1] == '"'):
        return None
    try:
        inner = json.loads(text)
    except ValueError:
        return None
    return inner if isinstance(inner, str) and json.dumps(inner) == text else None
