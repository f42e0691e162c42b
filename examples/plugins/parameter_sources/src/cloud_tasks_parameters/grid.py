"""Tasks from a parameter grid in a TOML file."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks_parameters.settings import GridSettings

__all__ = ["GridSource"]

_HINT = "write for example: seed = { from = 1, to = 100 } or mode = ['fast', 'exact']"


class GridSource:
    """All combinations of the parameters' values, the last parameter varying fastest.

    Memory holds the values of each parameter only; ranges are not expanded.

    Raises:
        InputError: On opening, if the file does not exist, is not TOML, or contains no grid.
    """

    def __init__(self, file: Path, settings: GridSettings) -> None:
        self._where = str(file)
        self._prefix = settings.id_prefix
        parameters = self._read(file)
        self._names = tuple(parameters)
        self._values = tuple(self._values_of(name, given) for name, given in parameters.items())
        self._length = math.prod(len(values) for values in self._values)
        if self._length > settings.max_tasks:
            raise InputError(
                f"the grid has {self._length} tasks, more than grid.max_tasks allows ({settings.max_tasks})",
                where=self._where,
                hint="drop values, or raise grid.max_tasks",
            )

    def __iter__(self) -> Iterator[Task]:
        # itertools.product would expand the ranges first.
        strides = [math.prod(len(later) for later in self._values[place + 1 :]) for place in range(len(self._values))]
        # With a fixed width, ids sort in the order of the tasks.
        width = max(6, len(str(self._length - 1)))
        for number in range(self._length):
            data = {
                name: values[number // stride % len(values)]
                for name, values, stride in zip(self._names, self._values, strides, strict=True)
            }
            yield Task(task_id=f"{self._prefix}-{number:0{width}d}", data=data)

    def expected_length(self) -> int | None:
        return self._length

    def _read(self, file: Path) -> Mapping[str, Any]:
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", where=self._where) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"is not TOML: {error}", where=self._where) from error
        parameters = content.pop("parameters", None)
        if content:
            raise InputError(f'has an unknown key "{next(iter(content))}"', where=self._where, hint=_HINT)
        if not isinstance(parameters, dict) or not parameters:
            raise InputError("has no table [parameters] with at least one parameter", where=self._where, hint=_HINT)
        return parameters

    def _values_of(self, name: str, given: Any) -> Sequence[Any]:
        where = f"{self._where}: parameters.{name}"
        if isinstance(given, dict):
            return _range(given, where)
        values = given if isinstance(given, list) else [given]
        if not values:
            raise InputError("has no values", where=where, hint=_HINT)
        if any(_is_not_json(value) for value in values):
            raise InputError("has a value that a task cannot carry", where=where, hint="put dates into quotes")
        if any(first == second and type(first) is type(second) for first, second in itertools.combinations(values, 2)):
            raise InputError("has a value twice", where=where)
        return values


def _range(given: Mapping[str, Any], where: str) -> range:
    unknown = given.keys() - {"from", "to", "step"}
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in given.values())
    if unknown or not whole or not {"from", "to"} <= given.keys():
        raise InputError("is not a range of whole numbers", where=where, hint=_HINT)
    step = given.get("step", 1)
    values = range(given["from"], given["to"] + (1 if step > 0 else -1), step) if step else range(0)
    if not values:
        raise InputError("is a range without values", where=where, hint=_HINT)
    return values


def _is_not_json(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_not_json(each) for each in value)
    if isinstance(value, dict):
        return any(_is_not_json(each) for each in value.values())
    return isinstance(value, (date, time)) or (isinstance(value, float) and not math.isfinite(value))
