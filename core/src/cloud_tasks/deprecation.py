"""Renamed and removed fields of descriptors and traits, accepted for one more release.

Invariants, each with a test:

1. A deprecated field is accepted by the class and readable on the object, with the value that was passed.
2. Each use raises one `DeprecationWarning` that names class, field and replacement, at the line of the plugin.
3. A deprecated field is not an attrs field: core, the contract kit and ``plugins show`` have the current names only.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

__all__ = ["Removed", "Renamed", "deprecated_fields", "fields_deprecated_by"]

_NOT_THE_PLUGIN = (__name__, "attr._make", "attr._funcs", "attr", "attrs", "copy")
_FIELDS = "__cloud_tasks_deprecated_fields__"
_C = TypeVar("_C", bound=type[Any])


@attrs.frozen
class Renamed:
    """A field with another name."""

    to: str

    def __str__(self) -> str:
        return f"renamed to {self.to}"


@attrs.frozen
class Removed:
    """A field that core ignores."""

    instead: str
    """Replacement, as the end of a sentence."""
    default: Any = attrs.field(default=None, kw_only=True)
    """Value of the field if none was passed."""

    def __str__(self) -> str:
        return f"ignored: {self.instead}"


def deprecated_fields(**fields: Renamed | Removed) -> Callable[[_C], _C]:
    """Return a class decorator, for use above `attrs.frozen`, that keeps former fields working.

    A class with a removed field needs ``slots=False``: its objects keep the passed value.
    """

    def decorate(cls: _C) -> _C:
        wrapped = cls.__init__

        @functools.wraps(wrapped)
        def init(self: Any, *args: Any, **given: Any) -> None:
            kept: dict[str, Any] = {}
            for name in fields.keys() & given.keys():
                change, value = fields[name], given.pop(name)
                _warn(cls, name, change)
                if isinstance(change, Renamed):
                    # `attrs.evolve` passes both names, since it adds the current value of every field.
                    given[change.to] = value
                else:
                    kept[name] = value
            wrapped(self, *args, **given)
            if kept:
                vars(self).update(kept)

        cls.__init__ = init
        setattr(cls, _FIELDS, fields)
        for name, change in fields.items():
            setattr(cls, name, property(functools.partial(_read, cls, name, change)))
        return cls

    return decorate


def fields_deprecated_by(cls: type[Any]) -> Mapping[str, Renamed | Removed]:
    """Return the deprecated fields of a class by name."""
    found: Mapping[str, Renamed | Removed] = getattr(cls, _FIELDS, {})
    return found


def _read(cls: type[Any], name: str, change: Renamed | Removed, self: Any) -> Any:
    _warn(cls, name, change)
    return getattr(self, change.to) if isinstance(change, Renamed) else vars(self).get(name, change.default)


def _warn(cls: type[Any], name: str, change: Renamed | Removed) -> None:
    """Warn at the first line outside this module and attrs, which `attrs.evolve` passes through."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "") in _NOT_THE_PLUGIN:
        level, frame = level + 1, frame.f_back
    message = f"{cls.__name__}.{name} is deprecated and will be an error in the next release: {change}"
    warnings.warn(message, DeprecationWarning, stacklevel=level)
