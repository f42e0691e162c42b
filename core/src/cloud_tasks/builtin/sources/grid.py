"""Parameter grids as task sources: ``seed=1..100;mode=fast,slow`` is one task for each combination of values.

Invariant, with a test: memory does not grow with the number of tasks; of a range only its bounds are kept.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from cloud_tasks.errors import InputError
from cloud_tasks.model import Task

__all__ = ["GridSource"]

_RANGE = re.compile(r"^(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?$")
_HINT = "write for example grid:seed=1..100;mode=fast,slow"
_MAX_TASKS = 10**12
"""A larger grid is taken for a mistake."""


class GridSource:
    """All combinations of the parameters' values; the last parameter varies fastest.

    ``name=a,b,c`` lists values (numbers, true, false and null as in JSON, anything else is text). ``name=1..9`` and
    ``name=1..9..2`` are ranges, both ends included. Semicolons or spaces separate parameters. A task's data maps names
    to values; its id is ``name=value`` for each parameter, joined by commas.

    Raises:
        InputError: The text is not a valid grid.
    """

    def __init__(self, text: str) -> None:
        self.where = f"grid:{text}"
        self._parameters: dict[str, Sequence[Any]] = {}
        for part in re.split(r"[;\s]+", text.strip()):
            name, separator, values = part.partition("=")
            if not separator or not name.isidentifier() or not values:
                raise InputError(f'expected name=values, got "{part}"', where=self.where, hint=_HINT)
            if name in self._parameters:
                raise InputError(f'parameter "{name}" is given twice', where=self.where, hint=_HINT)
            self._parameters[name] = self._values(name, values)
        self._length = math.prod(map(len, self._parameters.values()))
        if self._length > _MAX_TASKS:
            raise InputError(f"{self._length:,} tasks are more than a job can have", where=self.where)

    def __iter__(self) -> Iterator[Task]:
        # `itertools.product` would first make a tuple of each range.
        parameters, stride = [], self._length
        for name, values in self._parameters.items():
            stride //= len(values)
            parameters.append((name, values, stride))
        for number in range(self._length):
            data = {name: values[number // stride % len(values)] for name, values, stride in parameters}
            yield Task(task_id=",".join(f"{name}={_text(value)}" for name, value in data.items()), data=data)

    def expected_length(self) -> int | None:
        return self._length

    def _values(self, name: str, text: str) -> Sequence[Any]:
        match = _RANGE.match(text)
        if match is None:
            values = [_value(item) for item in text.split(",")]
            if len({_text(value) for value in values}) < len(values):
                raise InputError(f'parameter "{name}" has a value twice', where=self.where, hint="remove one of them")
            return values
        first, last = int(match[1]), int(match[2])
        step = int(match[3]) if match[3] else (1 if last >= first else -1)
        if step == 0 or (last - first) * step < 0:
            raise InputError(f'parameter "{name}": the range {text} is empty', where=self.where, hint=_HINT)
        if (last - first) // step >= _MAX_TASKS:
            raise InputError(f'parameter "{name}": the range {text} is too large', where=self.where, hint=_HINT)
        return range(first, last + (1 if step > 0 else -1), step)


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, (dict, list, str)) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
