"""Functions and classes that a descriptor names as ``module:attribute``, imported when they are called.

Invariants, each with a test:

1. Registering a plugin imports nothing that its import strings name.
2. An object that a target of ``open`` returns is closed at the end of the block, whether or not it is a context
   manager.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs

from cloud_tasks.errors import PluginError

__all__ = ["Target", "imported", "imported_open"]

Target = str | Callable[..., Any]
"""A function or class, or its import string ``module:attribute``."""

_FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@attrs.frozen
class _Imported:
    """A callable that is imported at its first call."""

    target: str = attrs.field()

    @target.validator
    def _check(self, attribute: attrs.Attribute[str], value: str) -> None:
        if not _FORM.fullmatch(value):
            raise ValueError(f'"{value}" is not an import string; expected module:attribute')

    def __call__(self, *arguments: Any) -> Any:
        module, _, attribute = self.target.partition(":")
        try:
            function = getattr(importlib.import_module(module), attribute)
        except AttributeError as error:
            raise PluginError(f'cannot import "{self.target}": {error}') from error
        return function(*arguments)


class _ImportedOpen(_Imported):
    """The same for ``open``: the result is a context manager."""

    def __call__(self, *arguments: Any) -> AbstractContextManager[Any]:
        opened = super().__call__(*arguments)
        return opened if hasattr(opened, "__exit__") else _closing(opened)


def imported(target: Target | None) -> Any:
    """Return a callable for a target; None for None. Raises `ValueError` for an invalid import string."""
    return _Imported(target) if isinstance(target, str) else target


def imported_open(target: Target) -> Any:
    """Return a callable for a target whose result is a context manager.

    A target that is an import string may return a context manager, or an object, which is closed with its ``close`` if
    it has one. Raises `ValueError` for an invalid import string.
    """
    return _ImportedOpen(target) if isinstance(target, str) else target


@contextmanager
def _closing(opened: Any) -> Iterator[Any]:
    try:
        yield opened
    finally:
        close = getattr(opened, "close", None)
        if close is not None:
            close()
