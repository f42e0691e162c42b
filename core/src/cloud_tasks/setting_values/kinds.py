"""Types of settings: which are supported, their parts, and their names in messages."""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast

import attrs

from cloud_tasks.model import Money

__all__ = [
    "SUPPORTED_KINDS",
    "CountOrShare",
    "Seconds",
    "SecondsOrUnlimited",
    "check_settings_class",
    "choices",
    "describe",
    "element_type",
    "expected",
    "field_types",
    "is_mapping",
    "is_number",
    "is_optional",
    "item_kinds",
    "strip_optional",
]

Seconds = Annotated[float, "cloud_tasks.seconds"]
"""Number of seconds; as text also with a unit, such as ``10m``."""


SecondsOrUnlimited = Annotated[float, "cloud_tasks.seconds_or_unlimited"]
"""A duration as `Seconds`, or infinity: as text, ``unlimited``."""


class CountOrShare(str):
    """A number of things, or a share of all of them: ``5``, ``2%``. A file may hold the number itself."""


SUPPORTED_KINDS = (
    "bool, int, float, str, Decimal, Money, Seconds, timedelta, Path, enums, Literal, tuple[X, ...], list[X], "
    "dict[str, X], and each of these with None"
)

_SCALARS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    str: "text",
    Path: "a path",
    CountOrShare: "a number or a share",
    Money: "an amount in US dollars",
    timedelta: "a duration",
    Seconds: "a duration",
    SecondsOrUnlimited: "a duration or unlimited",
}
_EXAMPLES: Mapping[Any, str] = {
    CountOrShare: "such as 5 or 2%",
    Money: "such as 25 or 0.5",
    timedelta: "such as 90s, 10m or 2h",
    Seconds: "such as 90s, 10m or 2h",
    SecondsOrUnlimited: "such as 12h, 2d or unlimited",
}


def field_types(cls: type[Any]) -> Mapping[str, Any]:
    """Return the types of a settings class's fields; `Any` for all if an annotation cannot be resolved."""
    try:
        return _field_types(cast(Hashable, cls))
    except (NameError, TypeError, AttributeError):
        return {field.name: Any for field in attrs.fields(cls)}


@functools.cache
def _field_types(cls: Any) -> Mapping[str, Any]:
    plain, hints = typing.get_type_hints(cls), typing.get_type_hints(cls, include_extras=True)
    hints = {name: plain[name] if _has_other_annotations(hint) else hint for name, hint in hints.items()}
    return {field.name: hints.get(field.name, field.type or Any) for field in attrs.fields(cls)}


def _has_other_annotations(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return hint not in (Seconds, SecondsOrUnlimited)
    return any(map(_has_other_annotations, typing.get_args(hint)))


def check_settings_class(cls: type[Any]) -> None:
    """Raise `TypeError` if a setting has an unsupported type."""
    if not attrs.has(cls):
        raise TypeError(f"{cls.__name__} is not an attrs class; settings must be one")
    try:
        kinds = _field_types(cast(Hashable, cls))
    except (NameError, TypeError, AttributeError) as error:
        raise TypeError(f"{cls.__name__}: an annotation cannot be resolved: {error}") from error
    for field in attrs.fields(cls):
        if field.init and not _is_supported(kinds[field.name]):
            kind = kinds[field.name]
            name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
            raise TypeError(
                f"{cls.__name__}.{field.name}: the type {name} is not supported for a setting; "
                f"supported: {SUPPORTED_KINDS}"
            )


def _is_supported(kind: Any) -> bool:
    base = strip_optional(kind)
    if base in _SCALARS:
        return True
    if is_mapping(base):
        arguments = typing.get_args(base)
        return len(arguments) == 2 and arguments[0] is str and _is_supported(arguments[1])
    if items := item_kinds(base):
        return all(map(_is_supported, items))
    words = _choice_words(base)
    return bool(words) and len({word for word, _ in words}) == len(words)


def base_of(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else ()


def is_optional(kind: Any) -> bool:
    """Return whether None is allowed."""
    alternatives = typing.get_args(kind) if typing.get_origin(kind) is Literal else _alternatives(kind)
    return kind is Any or type(None) in alternatives or None in alternatives


def is_number(kind: Any) -> bool:
    """Return whether a value of the kind is a number, an amount or a duration, or None."""
    return strip_optional(kind) in (int, float, Decimal, Money, timedelta, Seconds, SecondsOrUnlimited, CountOrShare)


def strip_optional(kind: Any) -> Any:
    """Return the type without None."""
    rest = tuple(one for one in _alternatives(kind) if one is not type(None))
    return rest[0] if len(rest) == 1 else kind


def is_mapping(kind: Any) -> bool:
    """Return whether it is a mapping."""
    return base_of(strip_optional(kind)) in (dict, Mapping)


def item_kinds(kind: Any) -> tuple[Any, ...]:
    """Return the kinds of a sequence's items: one kind if its length may vary; empty for other types."""
    base = strip_optional(kind)
    arguments = typing.get_args(base)
    if base_of(base) not in (tuple, list, Sequence) or arguments in ((), ((),)):
        return ()
    return arguments[:1] if arguments[1:] == (Ellipsis,) else arguments


def is_fixed(kind: Any) -> bool:
    """Return whether it is a tuple of fixed length, such as ``tuple[int, str]``."""
    base = strip_optional(kind)
    arguments = typing.get_args(base)
    return base_of(base) is tuple and bool(arguments) and Ellipsis not in arguments


def element_type(kind: Any) -> Any:
    """Return the type of the elements of a ``tuple[X, ...]`` or ``list[X]`` (or None); None for other types."""
    items = item_kinds(kind)
    return items[0] if len(items) == 1 else None


def choices(kind: Any) -> Mapping[str, Any]:
    """Return the values of an enum or `Literal` by their texts; empty for other types."""
    return dict(_choice_words(strip_optional(kind)))


def _choice_words(base: Any) -> Sequence[tuple[str, Any]]:
    if isinstance(base, type) and issubclass(base, enum.Enum) and not issubclass(base, enum.Flag):
        return [(word_of(member), member) for member in base]
    if typing.get_origin(base) is Literal:
        values = [value for value in typing.get_args(base) if value is not None]
        if all(isinstance(value, str | int | enum.Enum) for value in values):
            return [(word_of(value), value) for value in values]
    return ()


def word_of(value: Any) -> str:
    """Return the text of a member of an enum or a value of a `Literal`."""
    if isinstance(value, enum.Enum):
        value = value.value
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def describe(kind: Any) -> str:
    """Return the name of a type for messages and documents, e.g. ``a whole number``."""
    base = strip_optional(kind)
    if isinstance(base, Hashable) and base in _SCALARS:
        return _SCALARS[base]
    if item_kinds(base):
        return "a list"
    if words := choices(base):
        return f"one of {', '.join(words)}"
    return "a mapping" if is_mapping(base) or hasattr(base, "from_plain") else "another kind of value"


def expected(kind: Any) -> str:
    """Return the name of a type with an example, for ``expected ..., got ...``."""
    base = strip_optional(kind)
    example = _EXAMPLES.get(base) if isinstance(base, Hashable) else None
    return f"{describe(kind)} {example}" if example else describe(kind)
