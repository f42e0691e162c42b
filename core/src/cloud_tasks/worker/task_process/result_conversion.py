"""Conversion of results to JSON types, by the rules that ``docs/writing_a_worker.md`` documents.

Invariants, each with a test:

1. What `convert` returns passes `cloud_tasks.sanitize.clean_value` unchanged.
2. No entry of a mapping is dropped: two keys that become one are refused.
"""

from __future__ import annotations

import json
import math
import os
import re
from sys import modules
from typing import Any

from cloud_tasks.sanitize import MAX_DEPTH, MAX_DIGITS, clean_text, clean_value

__all__ = ["NotJsonError", "RefusedResultError", "convert", "encode", "is_within_bounds", "short_repr", "type_name"]

_MAX_ENTRIES = 1_000_000
"""Entries of an array above which it is pickled: as JSON it would take many times its memory."""
_SHORT_YEAR = re.compile(r"^-(?=\d{3}-)")
"""Year before Christ with a digit less than others, as NumPy writes it."""
_MAX_REPR = 2000
_MAX_KEY = 40
_MAX_NAME = 200


class NotJsonError(Exception):
    """A value without a JSON form."""


class RefusedResultError(Exception):
    """A result that fails its task."""


_NOT_APPLICABLE = object()
_USUAL_INTEGER = 1 << 2000
"""Bound of integers that every interpreter writes in decimal, whatever its limit of digits (at least 640)."""
encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def convert(value: Any) -> Any:
    """Return a value as JSON types by the documented rules.

    Raises:
        RefusedResultError: Two keys become one, or the value is lazy: a generator, a coroutine.
        Exception: The value has no JSON form; as its own code raises.
    """
    kind = type(value)
    if hasattr(kind, "__await__"):
        raise RefusedResultError(
            f"the function returned a {kind.__name__}, which has not run; await it, or make the function async"
        )
    is_iterator = hasattr(kind, "__next__") or hasattr(kind, "__anext__")
    if is_iterator and kind.__module__ in ("builtins", "itertools"):
        raise RefusedResultError(
            f"the function returned a {kind.__name__}, whose values are not computed; return a list"
        )
    return _convert(value, MAX_DEPTH)


def is_within_bounds(value: Any, text: str) -> bool:
    """Return whether a value that JSON expresses as ``text`` has no number and no nesting beyond the bounds."""
    if re.search(rf"[0-9]{{{MAX_DIGITS}}}", text):
        return False
    level = [value] if isinstance(value, (dict, list, tuple)) else []
    for _ in range(MAX_DEPTH):
        level = [
            entry
            for container in level
            for entry in (container.values() if isinstance(container, dict) else container)
            if isinstance(entry, (dict, list, tuple))
        ]
    return not level


def _convert(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else clean_text(value)
    if value is None or kind is bool or (kind is float and math.isfinite(value)):
        return value
    if isinstance(value, (str, int, float)):
        if _has_fields(kind) and not _is_enum(value):
            raise NotJsonError("a value with fields of its own")
        return _scalar(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64

        return base64.b64encode(bytes(value)).decode()
    if depth == 0:
        raise NotJsonError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, (list, tuple, dict)) and _has_fields(kind):
        if len(value):
            raise NotJsonError("both entries and fields")
        return _fields(value, kind, depth - 1)
    if isinstance(value, (list, tuple)):
        return [_convert(entry, depth - 1) for entry in value]
    if isinstance(value, dict):
        return _mapping(value.items(), depth - 1)
    if isinstance(value, (set, frozenset)):
        return _sorted([_convert(entry, depth - 1) for entry in value])
    for rule in (_array, _standard, _fields, _collection):
        converted = rule(value, kind, depth - 1)
        if converted is not _NOT_APPLICABLE:
            return converted
    raise NotJsonError(f"no rule for {type_name(value)}")


def _has_fields(kind: Any) -> bool:
    return hasattr(kind, "__dataclass_fields__") or isinstance(getattr(kind, "__attrs_attrs__", None), tuple)


def _is_enum(value: Any) -> bool:
    return "enum" in modules and isinstance(value, modules["enum"].Enum)


def _scalar(value: Any) -> Any:
    """Return text that can be encoded, a finite number, or the text of another number."""
    if isinstance(value, int) and not -_USUAL_INTEGER < value < _USUAL_INTEGER:
        try:
            plain = clean_value(value)
            # An interpreter can be set to a lower limit of digits.
            encode(plain)
        except ValueError:
            return hex(value)
        return plain
    return clean_value(value)


def _mapping(items: Any, depth: int) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    for key, entry in items:
        name = _key(key, depth)
        if name in keys:
            pair = f"{short_repr(keys[name], _MAX_KEY)} and {short_repr(key, _MAX_KEY)}"
            raise RefusedResultError(f"the keys {pair} of the result are one key in JSON; use keys whose texts differ")
        keys[name] = key
        converted[name] = _convert(entry, depth)
    return converted


def _key(key: Any, depth: int) -> str:
    plain = _convert(key, depth)
    return plain if isinstance(plain, str) else encode(plain)


def _sorted(entries: list[Any]) -> list[Any]:
    try:
        return sorted(entries)
    except TypeError:
        return sorted(entries, key=encode)


def _array(value: Any, kind: Any, depth: int) -> Any:
    """Convert arrays and scalars of NumPy, pandas and others, by their methods ``tolist`` or ``item``."""
    has_type = hasattr(kind, "dtype")
    if not hasattr(kind, "tolist") and not (has_type and hasattr(kind, "item")):
        return _NOT_APPLICABLE
    size = getattr(value, "size", None)
    if callable(size):
        size = math.prod(size())
    elif size is None:
        size = len(value) if hasattr(kind, "__len__") else 1
    if size > _MAX_ENTRIES:
        raise NotJsonError(f"an array of more than {_MAX_ENTRIES:,} entries")
    of = getattr(value.dtype, "kind", "") if has_type else ""
    if kind.__module__.partition(".")[0] != "numpy":
        # The dates of pandas are dates in Python, too.
        of = ""
    if of == "M":
        value = value.astype(str)
    elif of == "m":
        value = value / value.dtype.type(1, "s")
    if hasattr(kind, "to_dict") and type(value.index).__name__ != "RangeIndex":
        return _labelled(value, depth)
    plain = value.tolist() if hasattr(kind, "tolist") else value.item()
    if type(plain) is kind:
        # Extended precision has no type in Python.
        plain = complex(value) if of == "c" else float(value)
        if _exceeds_double(value.real, plain.real) or _exceeds_double(value.imag, plain.imag):
            return str(value)
    return _time(_convert(plain, depth)) if of in ("M", "m") else _convert(plain, depth)


def _exceeds_double(value: Any, plain: float) -> bool:
    """Return whether a finite number that is not zero has become infinite or zero."""
    return plain in (0.0, math.inf, -math.inf) and bool(value != plain)


def _time(plain: Any) -> Any:
    """Return times of NumPy, as text or seconds, like those of other libraries: NaT, years of four digits."""
    if isinstance(plain, list):
        return [_time(entry) for entry in plain]
    if plain == "NaN":
        return "NaT"
    return _SHORT_YEAR.sub("-0", plain) if isinstance(plain, str) else plain


def _labelled(series: Any, depth: int) -> Any:
    """Convert a series of pandas whose labels are more than the numbers of its rows."""
    if not series.index.is_unique:
        raise NotJsonError("a series with equal labels")
    return _mapping(zip(series.index.tolist(), series.tolist(), strict=True), depth)


_STANDARD: tuple[tuple[str, str, Any], ...] = (
    ("enum", "Enum", lambda value: value.value),
    ("datetime", "datetime", lambda value: value.isoformat()),
    ("datetime", "date", lambda value: value.isoformat()),
    ("datetime", "time", lambda value: value.isoformat()),
    ("datetime", "timedelta", lambda value: value.total_seconds()),
    ("decimal", "Decimal", str),
    ("fractions", "Fraction", str),
    ("uuid", "UUID", str),
    ("builtins", "complex", str),
    ("os", "PathLike", lambda value: os.fsdecode(os.fspath(value))),
)


def _standard(value: Any, kind: type, depth: int) -> Any:
    """Convert scalars of the standard library. A module that is not loaded has no instances."""
    for module, name, rule in _STANDARD:
        if module in modules and isinstance(value, getattr(modules[module], name)):
            return _convert(rule(value), depth)
    return _NOT_APPLICABLE


def _fields(value: Any, kind: Any, depth: int) -> Any:
    """Convert dataclasses and attrs classes."""
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(getattr(kind, "__attrs_attrs__", None), tuple):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    else:
        return _NOT_APPLICABLE
    return _mapping([(name, getattr(value, name)) for name in names], depth)


def _collection(value: Any, kind: type, depth: int) -> Any:
    """Convert the other collections of the standard library."""
    import collections
    import types

    views: tuple[Any, ...] = tuple(map(type, ({}.keys(), {}.values(), {}.items())))
    if isinstance(value, (types.MappingProxyType, collections.UserDict, collections.ChainMap)):
        return _mapping(value.items(), depth)
    is_sequence = isinstance(value, (collections.deque, collections.UserList, range, *views))
    if is_sequence:
        if len(value) > _MAX_ENTRIES:
            raise NotJsonError(f"more than {_MAX_ENTRIES:,} entries")
        return [_convert(entry, depth) for entry in value]
    if isinstance(value, collections.UserString):
        return _convert(value.data, depth)
    return _NOT_APPLICABLE


def type_name(value: Any) -> str:
    """Return module and name of a value's type."""
    try:
        return clean_text(f"{type(value).__module__}.{type(value).__qualname__}", _MAX_NAME)
    except BaseException:
        return "unknown"


def short_repr(value: Any, limit: int = _MAX_REPR) -> str:
    """Return the text of a value, of bounded length; never raise."""
    try:
        return clean_text(repr(value), limit)
    except BaseException:
        return f"<{type_name(value)}>"
