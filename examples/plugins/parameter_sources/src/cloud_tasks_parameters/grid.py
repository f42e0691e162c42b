"""Task source for a parameter grid in a TOML file."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.plugin import TaskSourceContext, open_text
from cloud_tasks_parameters.settings import GridSettings

__all__ = ["GridSource"]

_HINT = "example: seed = { from = 1, to = 100 } or mode = ['fast', 'exact']"


class GridSource:
    """Every combination of the parameter values, the last parameter varying fastest.

    Memory holds only the values of each parameter, and of a range only its limits.

    Raises:
        InputError: On opening: the file is missing, not valid TOML, or not a valid grid.
    """

    def __init__(self, context: TaskSourceContext, settings: GridSettings) -> None:
        self._where = context.location
        self._prefix = settings.id_prefix
        parameters = self._read(context)
        self._names = tuple(parameters)
        self._values = tuple(self._values_of(name, given) for name, given in parameters.items())
        self._length = math.prod(len(values) for values in self._values)
        if self._length > settings.max_tasks:
            raise InputError(
                f"the grid has {self._length:,} tasks, more than toml-grid.max_tasks ({settings.max_tasks:,})",
                where=self._where,
                hint="remove values, or increase toml-grid.max_tasks",
            )

    def __iter__(self) -> Iterator[Task]:
        # Not itertools.product, which first converts the ranges to lists.
        strides = [math.prod(len(later) for later in self._values[place + 1 :]) for place in range(len(self._values))]
        # With a fixed width, ids sort in task order.
        width = max(6, len(str(self._length - 1)))
        for number in range(self._length):
            data = {
                name: values[number // stride % len(values)]
                for name, values, stride in zip(self._names, self._values, strides, strict=True)
            }
            yield Task(task_id=f"{self._prefix}-{number:0{width}d}", data=data)

    def expected_length(self) -> int | None:
        return self._length

    def _read(self, context: TaskSourceContext) -> Mapping[str, Any]:
        # A path, a URL or standard input, compressed or not; a problem is an InputError with the place.
        with open_text(context, encoding="utf-8-sig") as file:
            text = file.read()
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"invalid TOML: {error}", where=self._where) from error
        parameters = content.pop("parameters", None)
        if content:
            raise InputError(f'unknown key "{next(iter(content))}"', where=self._where, hint=_HINT)
        if not isinstance(parameters, dict) or not parameters:
            raise InputError("no table [parameters] with at least one parameter", where=self._where, hint=_HINT)
        return parameters

    def _values_of(self, name: str, given: Any) -> Sequence[Any]:
        where = f"{self._where}: parameters.{name}"
        if isinstance(given, dict):
            return _range(given, where)
        values = given if isinstance(given, list) else [given]
        if not values:
            raise InputError("no values", where=where, hint=_HINT)
        if any(_is_not_json(value) for value in values):
            raise InputError("a value cannot be stored as JSON", where=where, hint="put dates in quotes")
        if any(first == second and type(first) is type(second) for first, second in itertools.combinations(values, 2)):
            raise InputError("duplicate value", where=where, hint="remove one of the two")
        return values


def _range(given: Mapping[str, Any], where: str) -> range:
    unknown = given.keys() - {"from", "to", "step"}
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in given.values())
    if unknown or not whole or not {"from", "to"} <= given.keys():
        raise InputError("not a range of integers", where=where, hint=_HINT)
    step = given.get("step", 1)
    values = range(given["from"], given["to"] + (1 if step > 0 else -1), step) if step else range(0)
    if not values:
        raise InputError("empty range", where=where, hint=_HINT)
    return values


def _is_not_json(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_not_json(each) for each in value)
    if isinstance(value, dict):
        return any(_is_not_json(each) for each in value.values())
    return isinstance(value, (date, time)) or (isinstance(value, float) and not math.isfinite(value))
