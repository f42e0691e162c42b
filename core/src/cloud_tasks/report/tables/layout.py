"""Tables of anything: columns that know how to read a row, sorting by several of them, text for people, data for JSON.

Invariants, each with a test:

1. A sort is stable, and what is unknown comes last in either direction.
2. A name that fits several columns is refused, unless it is the whole name of one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.model import Money

__all__ = [
    "Column",
    "SortKey",
    "filter_rows",
    "parse_sort",
    "plain_rows",
    "render_records",
    "render_table",
    "sort_rows",
]

R = TypeVar("R")

_UNKNOWN = "-"


@attrs.frozen(kw_only=True)
class Column(Generic[R]):
    """One property of the rows."""

    name: str
    """For ``--sort-by`` and JSON: lower case with underscores."""
    title: str
    """The heading for people."""
    value: Callable[[R], Any]
    """What a row has of it: a text, a number, `Money`, a time, a bool, a sequence of texts; None where unknown."""
    to_the_right: bool = False
    detail: bool = False
    """Shown with ``--detail`` only."""
    also: tuple[str, ...] = ()
    """Other names by which ``--sort-by`` knows it."""
    places: int | None = None
    """Decimal places of a number for people; None: as many as it has."""

    def text(self, row: R) -> str:
        """What people see."""
        return _text(self.value(row), self.places)


@attrs.frozen(kw_only=True)
class SortKey(Generic[R]):
    column: Column[R]
    descending: bool = False


def parse_sort(text: str, columns: Sequence[Column[R]], *, where: str = "--sort-by") -> tuple[SortKey[R], ...]:
    """Read ``vcpu,-mem``: names of columns or the beginnings of such, ``-`` for descending, the first counts most.

    Raises:
        InputError: A name fits no column, or several.
    """
    words = [word for word in text.replace(",", " ").split() if word]
    if not words:
        raise InputError("no field is named", where=where, hint=f"choose from {_names(columns)}")
    return tuple(
        SortKey(column=_find(word.lstrip("+-"), columns, where), descending=word.startswith("-")) for word in words
    )


def _find(word: str, columns: Sequence[Column[R]], where: str) -> Column[R]:
    wanted = word.lower().replace("-", "_")
    for column in columns:
        if wanted in (column.name, *column.also):
            return column
    fitting = [
        column for column in columns if wanted and any(n.startswith(wanted) for n in (column.name, *column.also))
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(f'"{word}" may mean {_names(fitting)}', where=where, hint="write more of it")
    raise InputError(f'there is no field "{word}"', where=where, hint=f"choose from {_names(columns)}")


def _names(columns: Iterable[Column[R]]) -> str:
    return ", ".join(column.name for column in columns)


def sort_rows(rows: Iterable[R], keys: Sequence[SortKey[R]]) -> list[R]:
    """The rows by all the keys; the unknown last, whatever the direction."""
    found = list(rows)
    for key in reversed(keys):
        known = [row for row in found if key.column.value(row) is not None]
        unknown = [row for row in found if key.column.value(row) is None]
        known.sort(key=lambda row: _comparable(key.column.value(row)), reverse=key.descending)
        found = known + unknown
    return found


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return (value.lower(), value)
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return tuple(_comparable(part) for part in value)
    return value.usd if isinstance(value, Money) else value


def filter_rows(rows: Iterable[R], columns: Sequence[Column[R]], text: str) -> list[R]:
    """The rows that have this text in any column, as people see it, in any case."""
    wanted = text.lower()
    return [row for row in rows if any(wanted in column.text(row).lower() for column in columns)]


def render_table(rows: Sequence[R], columns: Sequence[Column[R]]) -> str:
    """Heading, rule, and a line for each row."""
    cells = [[column.text(row) for column in columns] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(len(line[index]) for line in (titles, *cells)) for index in range(len(columns))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    head, *body = (_line(line, widths, columns) for line in (titles, *cells))
    return "\n".join((head, rule, *body))


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column[R]]) -> str:
    parts = (
        cell.rjust(width) if column.to_the_right else cell.ljust(width)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    )
    return "  ".join(parts).rstrip()


def render_records(rows: Sequence[R], columns: Sequence[Column[R]]) -> str:
    """A block for each row: its first column, then a line for each of the others."""
    first, *rest = columns
    width = max((len(column.title) for column in rest), default=0)
    blocks = (
        "\n".join((first.text(row), *(f"  {column.title + ':':<{width + 1}} {column.text(row)}" for column in rest)))
        for row in rows
    )
    return "\n\n".join(blocks)


def plain_rows(rows: Iterable[R], columns: Sequence[Column[R]]) -> list[dict[str, Any]]:
    """The rows for `json.dumps`: times in ISO 8601, amounts in US dollars as text, the unknown null."""
    return [{column.name: _plain(column.value(row)) for column in columns} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, Money):
        return f"{value.usd:f}"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _text(value: Any, places: int | None) -> str:
    if value is None or value == "" or value == ():
        return _UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Money):
        return value.format(6 if places is None else places)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, float):
        return f"{value:g}" if places is None else f"{value:.{places}f}"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return ", ".join(_text(part, places) for part in value)
    return str(value)
