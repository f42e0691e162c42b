"""Parameter grids as task sources: ``seed=1..100;mode=fast,slow`` is one task for each combination of values.

Invariants, each with a test:

1. Memory does not grow with the number of tasks; of a range only its bounds are kept.
2. Two combinations never have one id, and no id is longer than `MAX_ID_LENGTH`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence

from cloud_tasks.builtin.sources.grid_values import MAX_TASKS, TYPES, GridValueError, GridValues
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.sanitize import clean_text

__all__ = ["MAX_ID_LENGTH", "GridSource"]

MAX_ID_LENGTH = 200
"""Characters of a task's id; a longer one ends in a digest of the whole."""

_DIGEST_LENGTH = 20
_HINT = "write for example grid:seed=1..100;mode=fast,slow"
_NAME = re.compile(rf"([^=:;\s]+)(?::({'|'.join(TYPES)}))?\s*=")
_QUOTED = r"""(?:"(?:[^"\\]|\\.|"")*"|'(?:[^']|'')*')(?=[,;\s]|\Z)"""
_VALUE = rf"(?:{_QUOTED}|(?:\\.|[^,;\s\\]|\\\Z)*)"
_PARAMETER = re.compile(rf"[^=;\s]*(?:={_VALUE}(?:,{_VALUE})*)?", re.DOTALL)
_SEPARATOR = re.compile(r"[;\s]+")


class GridSource:
    """All combinations of the parameters' values; the last parameter varies fastest.

    Each parameter is ``name=values`` or ``name:type=values``, its values as in
    `cloud_tasks.builtin.sources.grid_values`. A task's data maps names to values; its id is ``name=value`` for each
    parameter, joined by commas, with the values as written.

    Args:
        grid: Parameters separated by semicolons or blanks, or a list of parameters.

    Raises:
        InputError: Not a valid grid.
    """

    def __init__(self, grid: str | Sequence[str]) -> None:
        parameters = _split(grid) if isinstance(grid, str) else grid
        text = clean_text(";".join(parameters), 200)
        self.where = f"grid:{text}"
        self._parameters: dict[str, GridValues] = {}
        for parameter in parameters:
            self._add(parameter)
        if not self._parameters:
            raise InputError("no parameters", where=self.where, hint=_HINT)
        self._length = math.prod(values.number for values in self._parameters.values())
        if self._length > MAX_TASKS:
            raise InputError(f"{self._length:,} tasks are more than a job can have", where=self.where)

    def __iter__(self) -> Iterator[Task]:
        # `itertools.product` would first make a tuple of each range.
        parameters, stride = [], self._length
        for name, values in self._parameters.items():
            stride //= values.number
            parameters.append((name, values, stride, values.number))
        for number in range(self._length):
            chosen = [(name, values[number // stride % count]) for name, values, stride, count in parameters]
            task_id = ",".join(f"{name}={_in_id(text)}" for name, (text, _) in chosen)
            yield Task(task_id=_bounded(task_id), data={name: data for name, (_, data) in chosen})

    def place(self) -> str:
        return self.where

    def expected_length(self) -> int | None:
        return self._length

    def _add(self, parameter: str) -> None:
        match = _NAME.match(parameter.strip())
        if match is None or not match[1].isidentifier():
            shown = clean_text(parameter, 60)
            raise InputError(f'expected name=values or name:type=values, got "{shown}"', where=self.where, hint=_HINT)
        name, kind = match[1], match[2] or ""
        if name in self._parameters:
            raise InputError(f'parameter "{name}" is given twice', where=self.where, hint="remove one of them")
        written = parameter.strip()[match.end() :]
        if clean_text(written) != written:
            raise InputError(f'parameter "{name}": not valid Unicode', where=self.where)
        try:
            self._parameters[name] = GridValues(written, kind)
        except GridValueError as error:
            raise InputError(f'parameter "{name}": {error}', where=self.where) from error


def _split(grid: str) -> list[str]:
    """Split parameters at semicolons and blanks that are not quoted."""
    parameters: list[str] = []
    position = 0
    while position < len(grid):
        separator = _SEPARATOR.match(grid, position)
        if separator is not None:
            position = separator.end()
            continue
        match = _PARAMETER.match(grid, position)
        end = match.end() if match is not None else position
        if end < len(grid) and _SEPARATOR.match(grid, end) is None:
            # Malformed: refused as a whole, with its reason.
            following = _SEPARATOR.search(grid, end)
            end = len(grid) if following is None else following.start()
        parameters.append(grid[position:end])
        position = end
    return parameters


def _in_id(text: str) -> str:
    """Return a value as written; in quotes if it could be taken for the end of a value."""
    if "," in text or text.startswith('"') or not text.isprintable():
        return json.dumps(text, ensure_ascii=not text.isprintable())
    return text


def _bounded(task_id: str) -> str:
    if len(task_id) <= MAX_ID_LENGTH:
        return task_id
    digest = hashlib.sha256(task_id.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{task_id[: MAX_ID_LENGTH - _DIGEST_LENGTH - 1]}~{digest}"
