"""Task sources in Python: a function named by the user, or an object passed by a program."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

from cloud_tasks.builtin.sources.foreign import checked_tasks, failures
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task

__all__ = ["CallableSource", "IterableSource", "load_factory", "looks_like_factory"]

_SPEC = re.compile(r"^(?P<place>.+):(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)$", re.DOTALL)
_FACTORY = "the task factory"
_MODULE = re.compile(r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$")


def looks_like_factory(spec: str) -> bool:
    """Return whether ``spec`` has the form ``module:function`` or ``path/to/file.py:function``."""
    match = _SPEC.match(spec)
    return match is not None and (match["place"].endswith(".py") or _MODULE.match(match["place"]) is not None)


def load_factory(spec: str, base_dir: Path) -> CallableSource:
    """Import the function named by ``spec``; ``base_dir`` is on the module search path.

    Raises:
        InputError: The function cannot be imported, does not exist, or is not callable.
    """
    match = _SPEC.match(spec)
    if match is None or not looks_like_factory(spec):
        raise InputError(f'"{spec}" is not a function', hint="write module:function or path/to/file.py:function")
    place = match["place"]
    with failures(lambda: "import failed:", place):
        module = _from_file(place, base_dir) if place.endswith(".py") else _from_name(place, base_dir)
    found: Any = module
    for part in match["name"].split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f'function "{match["name"]}" not found', where=place)
    return CallableSource(found, where=spec)


def _from_file(place: str, base_dir: Path) -> Any:
    path = base_dir / Path(place).expanduser()
    if not path.is_file():
        raise InputError("file not found", where=place, hint="check the path of the task factory")
    name = path.stem
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise InputError("not a Python file", where=place)
    module = importlib.util.module_from_spec(specification)
    # As `python file.py` does: the folder is on the module search path.
    _make_importable(path.parent)
    # Dataclasses and pickle find the module by its name; an existing module keeps it.
    sys.modules.setdefault(name, module)
    specification.loader.exec_module(module)
    return module


def _from_name(place: str, base_dir: Path) -> Any:
    _make_importable(base_dir)
    return importlib.import_module(place)


def _make_importable(folder: Path) -> None:
    text = str(folder.resolve())
    if text not in sys.path:
        sys.path.insert(0, text)


class CallableSource:
    """Tasks of a function, which is called for each iteration.

    Raises (while iterating):
        InputError: The function raised an exception, did not return tasks, or a task is invalid.
    """

    def __init__(self, function: Callable[[], Iterable[Any]], *, where: str = "") -> None:
        self._function = function
        self.where = where or f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', function)}"

    def __iter__(self) -> Iterator[Task]:
        with failures(lambda: f"{_FACTORY} raised", self.where):
            answer = self._function()
        yield from checked_tasks(answer, _FACTORY, self.where)

    def expected_length(self) -> int | None:
        return None


class IterableSource:
    """Tasks of an iterable: a list, or an iterator, which can be read once."""

    def __init__(self, entries: Iterable[Any], *, where: str = "the given tasks") -> None:
        self._entries = entries
        self._used = False
        self.where = where

    def __iter__(self) -> Iterator[Task]:
        if isinstance(self._entries, Iterator):
            if self._used:
                raise InputError(
                    "tasks of an iterator can be read only once", where=self.where, hint="pass a function instead"
                )
            self._used = True
        yield from checked_tasks(self._entries, _FACTORY, self.where)

    def expected_length(self) -> int | None:
        return len(self._entries) if isinstance(self._entries, Sized) else None
