"""Tasks from a grid of values: ``seed=1..100;mode=fast,slow`` makes one task for each combination."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task

__all__ = ["SweepSource"]

_RANGE = re.compile(r"^(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?$")
_HINT = "write for example sweep:seed=1..100;mode=fast,slow"


class SweepSource:
    """Every combination of the parameters' values, the last one varying fastest.

    ``name=a,b,c`` lists values (numbers, true, false and null as in JSON, anything else is text); ``name=1..9`` and
    ``name=1..9..2`` count, both ends included. Parameters are separated by semicolons or spaces. A task's data is its
    values by name, its id ``name=value`` for each, joined by commas.

    Raises:
        InputError: The text cannot be read so.
    """

    def __init__(self, text: str) -> None:
        self.where = f"sweep:{text}"
        self._parameters: dict[str, Sequence[Any]] = {}
        for part in re.split(r"[;\s]+", text.strip()):
            name, separator, values = part.partition("=")
            if not separator or not name.isidentifier() or not values:
                raise InputError(f'"{part}" is not a parameter with its values', where=self.where, hint=_HINT)
            if name in self._parameters:
                raise InputError(f'parameter "{name}" is given twice', where=self.where, hint=_HINT)
            self._parameters[name] = self._values(name, values)

    def __iter__(self) -> Iterator[Task]:
        names = tuple(self._parameters)
        for values in itertools.product(*self._parameters.values()):
            task_id = ",".join(f"{name}={_text(value)}" for name, value in zip(names, values, strict=True))
            yield Task(task_id=task_id, data=dict(zip(names, values, strict=True)))

    def expected_length(self) -> int | None:
        return math.prod(len(values) for values in self._parameters.values())

    def _values(self, name: str, text: str) -> Sequence[Any]:
        match = _RANGE.match(text)
        if match is None:
            values = [_value(item) for item in text.split(",")]
            if len({_text(value) for value in values}) < len(values):
                raise InputError(f'parameter "{name}" has a value twice', where=self.where)
            return values
        first, last = int(match[1]), int(match[2])
        step = int(match[3]) if match[3] else (1 if last >= first else -1)
        if step == 0 or (last - first) * step < 0:
            raise InputError(f'parameter "{name}": {text} holds no value', where=self.where, hint=_HINT)
        return range(first, last + (1 if step > 0 else -1), step)


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list, str)) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
