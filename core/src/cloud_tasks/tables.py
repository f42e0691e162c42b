"""Table layout: columns that read their value from a row, sorting, filtering, and rendering as text, Markdown and data.

Every table of the command line and the reports is rendered here.

Invariants, each with a test:

1. A sort is stable, and unknown values come last in either direction.
2. A field name that matches several columns is rejected, unless it is the whole name of one.
3. No text is cut: with a maximum width, cells are wrapped; without one, every row is a line.
"""

from __future__ import annotations

import enum
import itertools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.escape import terminal_line
from cloud_tasks.model import Money

__all__ = [
    "Column",
    "SortKey",
    "escape_markdown",
    "filter_rows",
    "parse_sort",
    "plain_rows",
    "render_markdown_table",
    "render_records",
    "render_table",
    "sort_rows",
]

R = TypeVar("R")

_UNKNOWN = "-"
_GAP = 2
_NARROWEST = 12
"""Width in characters below which no column is wrapped."""


@attrs.frozen(kw_only=True)
class Column(Generic[R]):
    """One field of the rows."""

    name: str
    """Field name for ``--sort-by`` and JSON: lower case with underscores."""
    title: str
    """Heading."""
    value: Callable[[R], Any]
    """Return the field of a row: text, number, `Money`, time, bool or a sequence of texts; None where unknown."""
    align_right: bool = False
    detail: bool = False
    """Shown with ``--detail`` only."""
    aliases: tuple[str, ...] = ()
    """Other names that ``--sort-by`` accepts."""
    places: int | None = None
    """Decimal places of numbers in text; None: as many as needed."""
    min_width: int = 0
    """Minimum width in characters."""
    max_width: int | None = None
    """Maximum width in characters to align to; longer cells move the rest of their row."""

    def text(self, row: R) -> str:
        """Return the field of a row as text."""
        return _text(self.value(row), self.places)


@attrs.frozen(kw_only=True)
class SortKey(Generic[R]):
    """A column to sort by, with its direction."""

    column: Column[R]
    descending: bool = False


def parse_sort(text: str, columns: Sequence[Column[R]], *, where: str = "--sort-by") -> tuple[SortKey[R], ...]:
    """Parse ``vcpu,-mem``: column names or their prefixes, most significant first, ``-`` for descending.

    Raises:
        InputError: A name matches no column, or several.
    """
    words = [word for word in text.replace(",", " ").split() if word]
    if not words:
        raise InputError("no field given", where=where, hint=f"choose from {_names(columns)}")
    return tuple(
        SortKey(column=_find(word.lstrip("+-"), columns, where), descending=word.startswith("-")) for word in words
    )


def _find(word: str, columns: Sequence[Column[R]], where: str) -> Column[R]:
    wanted = word.lower().replace("-", "_")
    for column in columns:
        if wanted in (column.name, *column.aliases):
            return column
    matching = [
        column for column in columns if wanted and any(n.startswith(wanted) for n in (column.name, *column.aliases))
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise InputError(f'"{word}" is ambiguous', where=where, hint=f"choose from {_names(matching)}")
    raise InputError(f'unknown field "{word}"', where=where, hint=f"choose from {_names(columns)}")


def _names(columns: Iterable[Column[R]]) -> str:
    return ", ".join(column.name for column in columns)


def sort_rows(rows: Iterable[R], keys: Sequence[SortKey[R]]) -> list[R]:
    """Return the rows sorted by all keys; unknown values last, whatever the direction."""
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
    """Return the rows that show this text in any column, ignoring case."""
    wanted = text.lower()
    return [row for row in rows if any(wanted in column.text(row).lower() for column in columns)]


def render_table(
    rows: Iterable[R], columns: Sequence[Column[R]], *, width: int | None = None, total: Sequence[str] = ()
) -> str:
    """Return a heading, a rule, and the rows as aligned columns.

    Args:
        width: Maximum width in characters; left-aligned columns are wrapped to fit. None: unlimited.
        total: Cells of a last row below another rule; a text may extend over the empty cells after it.
    """
    titles = [column.title for column in columns]
    cells = [[_cell(column.text(row)) for column in columns] for row in rows]
    natural = zip(*(map(len, line) for line in (titles, *cells)), strict=True)
    widths = _fit([_width(column, lengths) for column, lengths in zip(columns, natural, strict=True)], columns, width)
    rule = "-" * (sum(widths) + _GAP * (len(widths) - 1))
    wrap = width is not None

    def line(texts: Sequence[str]) -> str:
        return "\n".join(_row(texts, widths, columns, wrap=wrap))

    return "\n".join((line(titles), rule, *map(line, cells), *((rule, line(total)) if total else ())))


def _width(column: Column[R], lengths: Sequence[int]) -> int:
    longest = max(column.min_width, *lengths) if column.min_width else max(lengths)
    return longest if column.max_width is None else min(longest, column.max_width)


def _fit(widths: list[int], columns: Sequence[Column[R]], limit: int | None) -> list[int]:
    """Narrow the widest left-aligned columns until the table has the width, or nothing is left to narrow."""
    flexible = [index for index, column in enumerate(columns) if not column.align_right]
    while limit is not None and flexible and sum(widths) + _GAP * (len(widths) - 1) > limit:
        widest = max(flexible, key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths


def _row(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column[R]], *, wrap: bool) -> list[str]:
    parts = [_wrap(cell, width) if wrap else [cell] for cell, width in zip(cells, widths, strict=True)]
    return [_line(line, widths, columns) for line in itertools.zip_longest(*parts, fillvalue="")]


def _wrap(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width > 0 else [cell]


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column[R]]) -> str:
    line, start = "", 0
    for cell, width, column in zip(cells, widths, columns, strict=True):
        if cell:
            before = f"{line}{' ' * _GAP}" if line else ""
            line = before.ljust(start) + (cell.rjust(width) if column.align_right else cell)
        start += width + _GAP
    return line


def _cell(text: str) -> str:
    """Return text on one line; control characters are escaped."""
    return text if text.isprintable() else terminal_line(" ".join(text.splitlines()))


def render_records(rows: Sequence[R], columns: Sequence[Column[R]]) -> str:
    """Return a block for each row: its first column, then a line for each of the others."""
    first, *rest = columns
    width = max((len(column.title) for column in rest), default=0)
    blocks = (
        "\n".join(
            (
                _cell(first.text(row)),
                *(f"  {column.title + ':':<{width + 1}} {_cell(column.text(row))}" for column in rest),
            )
        )
        for row in rows
    )
    return "\n\n".join(blocks)


def render_markdown_table(rows: Iterable[R], columns: Sequence[Column[R]]) -> str:
    """Return the rows as a Markdown table; markup in cells is escaped."""
    head = " | ".join(column.title for column in columns)
    rule = "|".join(" ---: " if column.align_right else " --- " for column in columns)
    lines = (" | ".join(escape_markdown(column.text(row)) for column in columns) for row in rows)
    return "\n".join((f"| {head} |", f"|{rule}|", *(f"| {line} |" for line in lines)))


def escape_markdown(text: str) -> str:
    """Return text on one line with the characters escaped that Markdown would interpret."""
    line = terminal_line(" ".join(text.split()))
    return "".join(f"\\{letter}" if letter in "\\|*_`<>[]" else letter for letter in line)


def plain_rows(rows: Iterable[R], columns: Sequence[Column[R]]) -> list[dict[str, Any]]:
    """Return the rows for `json.dumps`: times in ISO 8601, amounts in US dollars as text, unknown values null."""
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
