"""Gives written values their types, strictly, and turns typed values back into text and JSON.

What YAML already typed has to have the right type (``"8"`` is no number, ``true`` is no number); text from a variable
or an option is read as its key's type asks, so that both ways of writing a value mean the same.
"""

from __future__ import annotations

import enum
import functools
import math
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, cast

import attrs
import cattrs

from cloud_tasks.config.document import BOOLEANS, FLOAT, INTEGER, parse_yaml_text
from cloud_tasks.config.origin import Sourced
from cloud_tasks.convert import make_model_converter
from cloud_tasks.model import Money

__all__ = [
    "describe",
    "element_type",
    "field_types",
    "is_optional",
    "plain",
    "show",
    "split_words",
    "strip_optional",
    "typed",
]

_NUMBERS = (float, Money, timedelta)


def typed(kind: Any, value: Sourced) -> Any:
    """The value with its type. Raises `ValueError` with a reason that reads well after ``section.key: ``."""
    raw = value.raw
    if value.is_text:
        raw = _read(kind, raw) if isinstance(raw, str) else raw
        if isinstance(raw, tuple | list) and (element := element_type(kind)) is not None:
            raw = [_read(element, word) if isinstance(word, str) else word for word in _flatten(raw, element)]
    return _structure(kind, raw)


def _flatten(words: Sequence[Any], element: Any) -> list[Any]:
    if _base(element) not in (str, int, float, Path):
        return list(words)
    return [part for word in words for part in (split_words(word) if isinstance(word, str) else [word])]


def _read(kind: Any, text: str) -> Any:
    """The plain value that a text stands for, by the type asked for; text that does not fit stays text."""
    if is_optional(kind) and text.strip() in ("", "null"):
        return None
    base = strip_optional(kind)
    word = text.strip()
    if base is bool:
        return {**BOOLEANS, "1": True, "0": False}.get(word.lower(), text)
    if base in (int, *_NUMBERS):
        return _number(word, text)
    if (element := element_type(base)) is not None:
        if _base(element) in (str, int, float, Path):
            return split_words(text)
        return parse_yaml_text(text)
    if _base(base) in (dict, Mapping) or attrs.has(_base(base)):
        return parse_yaml_text(text)
    return text


def _number(word: str, text: str) -> int | float | str:
    if INTEGER.match(word):
        return int(word)
    return float(word) if FLOAT.match(word) else text


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


# -- structuring: the one converter of the configuration ---------------------------------------------------------


def _refuse(kind: Any, value: Any) -> ValueError:
    advice = ""
    if strip_optional(kind) in (str, Path) and isinstance(value, bool | int | float):
        advice = "; put it in quotes"
    return ValueError(f"expected {describe(kind)}, got {_told(value)}{advice}")


def _told(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else str(value)


def _whole(value: Any, kind: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse(int, value)
    return value


def _real(value: Any, kind: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(kind, value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected {describe(kind)}, got one that is too large")
    return number


def _exactly(kind: type) -> Any:
    def check(value: Any, _: Any) -> Any:
        if not isinstance(value, kind):
            raise _refuse(kind, value)
        return value

    return check


def _money(value: Any, kind: Any) -> Money:
    if isinstance(value, Money):
        return value
    _real(value, Money)
    return Money(Decimal(str(value)))


def _path(value: Any, kind: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise _refuse(Path, value)
    return Path(value)


def _enum(value: Any, kind: Any) -> Any:
    if isinstance(value, kind):
        return value
    for member in kind:
        if str(member.value).lower() == str(value).lower():
            return member
    raise ValueError(f"{_told(value)} is not one of {', '.join(str(member.value) for member in kind)}")


def _literal(value: Any, kind: Any) -> Any:
    words = typing.get_args(kind)
    if isinstance(value, bool) or value not in words:
        raise ValueError(f"{_told(value)} is not one of {', '.join(map(str, words))}")
    return value


def _sequence(value: Any, kind: Any) -> Any:
    element = element_type(kind)
    if isinstance(value, str):
        value = split_words(value)
    if not isinstance(value, list | tuple):
        raise _refuse(kind, value)
    items = [_structure(element, item) for item in value]
    return items if _base(kind) is list else tuple(items)


@functools.cache
def _converter() -> cattrs.Converter:
    converter = make_model_converter()
    converter.register_structure_hook_func(lambda kind: element_type(kind) is not None, _sequence)
    converter.register_structure_hook_func(lambda kind: isinstance(kind, type) and issubclass(kind, enum.Enum), _enum)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(bool, _exactly(bool))
    converter.register_structure_hook(str, _exactly(str))
    converter.register_structure_hook(float, lambda value, _: _real(value, float))
    converter.register_structure_hook(Money, _money)
    converter.register_structure_hook(timedelta, lambda value, _: timedelta(seconds=_real(value, timedelta)))
    converter.register_structure_hook(Path, _path)
    return converter


def _structure(kind: Any, value: Any) -> Any:
    if _is_any(kind):
        return value
    base = strip_optional(kind)
    if base is not kind:
        return None if value is None else _structure(base, value)
    if attrs.has(_base(kind)) and isinstance(value, kind):
        return value
    takes_mapping = _base(kind) in (dict, Mapping) or (attrs.has(_base(kind)) and _base(kind) is not Money)
    if takes_mapping and not isinstance(value, Mapping):
        raise _refuse(kind, value)
    try:
        return _converter().structure(value, kind)
    except cattrs.StructureHandlerNotFoundError:
        return value
    except cattrs.BaseValidationError as error:
        problems = cattrs.transform_error(error, path="", format_exception=_reason)
        raise ValueError("; ".join(map(_placed, problems))) from error


def _placed(problem: str) -> str:
    """A problem as cattrs words it (``reason @ .field``) with its field in front, unless the reason names it."""
    reason, _, path = problem.rpartition(" @ ")
    return f"{path.removeprefix('.')}: {reason}" if path and not reason.endswith("is missing") else reason


def _reason(error: BaseException, kind: type | None) -> str:
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return f"unknown: {', '.join(sorted(error.extra_fields))}"
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error)


# -- types -----------------------------------------------------------------------------------------------------


def field_types(cls: type[Any]) -> Mapping[str, Any]:
    """The types of a settings class's fields; `Any` where an annotation cannot be resolved."""
    return _field_types(cast(Hashable, cls))


@functools.cache
def _field_types(cls: Any) -> Mapping[str, Any]:
    try:
        hints = typing.get_type_hints(cls)
    except (NameError, TypeError):
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in attrs.fields(cls)}


def _base(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else ()


def _is_literal(kind: object) -> bool:
    return typing.get_origin(kind) is Literal


def _is_any(kind: object) -> bool:
    return kind is Any


def is_optional(kind: Any) -> bool:
    """Whether None is allowed."""
    return kind is Any or type(None) in _alternatives(kind)


def strip_optional(kind: Any) -> Any:
    """The type without None."""
    rest = tuple(one for one in _alternatives(kind) if one is not type(None))
    return rest[0] if len(rest) == 1 else kind


def element_type(kind: Any) -> Any:
    """The type of the elements of a ``tuple[X, ...]`` or ``list[X]`` (or None); None for anything else."""
    base = strip_optional(kind)
    arguments = typing.get_args(base)
    if _base(base) in (tuple, list) and arguments and (len(arguments) == 1 or arguments[1] is Ellipsis):
        return arguments[0]
    return None


def describe(kind: Any) -> str:
    """A type in a user's words."""
    base = strip_optional(kind)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    names |= {Money: "an amount in US dollars", timedelta: "a number of seconds"}
    if base in names:
        return names[base]
    if element_type(base) is not None:
        return "a list"
    return "a mapping" if attrs.has(_base(base)) or _base(base) in (dict, Mapping) else "another kind of value"


# -- typed values as text and JSON -------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, Money):
        return int(value.usd) if value.usd == value.usd.to_integral_value() else float(value.usd)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if attrs.has(type(value)):
        return {name: plain(item) for name, item in attrs.asdict(value, recurse=False).items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def show(value: Any) -> str:
    """The value on one short line."""
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return " ".join(map(show, value)) or "nothing"
    if isinstance(value, float):
        return f"{value:.12g}"
    text = " ".join(str(value).split())
    return f"{text[:57]}..." if len(text) > 60 else text
