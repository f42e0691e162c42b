"""Options and output of the ``list-…`` commands, and tables on standard output."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from cloud_tasks.cli.options.common import json_option, verbose_option
from cloud_tasks.cli.output import echo
from cloud_tasks.config import JobConfig
from cloud_tasks.tables import (
    Column,
    SortKey,
    filter_rows,
    parse_sort,
    plain_rows,
    render_records,
    render_table,
    sort_rows,
)

__all__ = ["echo_table", "listing_options", "note_region", "output_width", "show_rows"]

_F = TypeVar("_F", bound=Callable[..., Any])
R = TypeVar("R")


def output_width() -> int | None:
    """Return the width of the terminal that standard output is; None, for unlimited, where it is not one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def note_region(config: JobConfig, *, every: bool) -> None:
    """Print to stderr that other regions are not listed, where that is so."""
    if not every and not config.registry.compute(config.compute).traits.lists_all_regions:
        place = f"region {config.run.region}" if config.run.region else "one region"
        echo(f"Only {place} is listed; add --all-regions for all", err=True)


def echo_table(rows: Sequence[R], columns: Sequence[Column[R]]) -> None:
    """Print rows as a table, wrapped to the terminal; unlimited in width where standard output is not a terminal."""
    echo(render_table(rows, columns, width=output_width()))


def listing_options(columns: Sequence[Column[Any]], *, sort: str, search: bool = True) -> Callable[[_F], _F]:
    """Return a decorator that adds ``--sort-by``, ``--detail``, ``--json``, ``-v``, and ``--filter`` and ``--limit``.

    Args:
        sort: Default of ``--sort-by``.
        search: Whether to add ``--filter`` and ``--limit``.
    """
    names = ", ".join(column.name for column in columns)

    def read(ctx: click.Context, _parameter: click.Parameter, text: str) -> tuple[SortKey[Any], ...]:
        return parse_sort(text, columns)

    options = [
        click.option(
            "--sort-by",
            metavar="FIELD[,FIELD]",
            default=sort,
            callback=read,
            help=f"Sort fields or their prefixes, -FIELD for descending (default: {sort}). Fields: {names}.",
        ),
        click.option("--detail", is_flag=True, help="Show all fields, a block for each entry."),
        json_option,
        verbose_option,
    ]
    if search:
        options += [
            click.option("--filter", "search", metavar="TEXT", help="Text that any field must contain."),
            click.option(
                "--limit", type=click.IntRange(1, 10**12), metavar="N", help="Maximum number of entries (default: all)."
            ),
        ]

    def decorate(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def show_rows(rows: Sequence[R], columns: Sequence[Column[R]], values: Mapping[str, Any], *, nothing: str) -> None:
    """Filter, sort and print rows according to the options of `listing_options`.

    Args:
        nothing: Text to print without rows.
    """
    found = list(rows)
    if values.get("search"):
        found = filter_rows(found, columns, values["search"])
    found = sort_rows(found, values["sort_by"])
    total, limit = len(found), values.get("limit")
    shown = found if limit is None else found[:limit]
    if values["as_json"]:
        echo(json.dumps(plain_rows(shown, columns), indent=2))
        return
    if not shown:
        echo(nothing)
        return
    if values["detail"]:
        echo(render_records(shown, columns))
    else:
        echo_table(shown, [column for column in columns if not column.detail])
    if len(shown) < total:
        echo(f"... and {total - len(shown):,} more; raise --limit to show them", err=True)
