"""What the ``list-…`` commands share: their options, and showing rows as a table, as records or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from cloud_tasks.cli.options.common import json_option, verbose_option
from cloud_tasks.report.tables.layout import (
    Column,
    SortKey,
    filter_rows,
    parse_sort,
    plain_rows,
    render_records,
    render_table,
    sort_rows,
)

__all__ = ["listing_options", "show_rows"]

_F = TypeVar("_F", bound=Callable[..., Any])
R = TypeVar("R")


def listing_options(columns: Sequence[Column[Any]], *, sort: str, search: bool = True) -> Callable[[_F], _F]:
    """A decorator: ``--sort-by``, ``--detail``, ``--json``, ``-v``, and with ``search`` ``--filter`` and ``--limit``.

    Args:
        sort: The order where none is asked for.
    """
    names = ", ".join(column.name for column in columns)

    def read(ctx: click.Context, _parameter: click.Parameter, text: str) -> tuple[SortKey[Any], ...]:
        return parse_sort(text, columns)

    options = [
        click.option(
            "--sort-by",
            metavar="FIELD[,FIELD]",
            default=sort,
            show_default=True,
            callback=read,
            help=f"Fields to sort by, or their beginnings; -FIELD for descending. Fields: {names}.",
        ),
        click.option("--detail", is_flag=True, help="Everything that is known, a block for each."),
        json_option,
        verbose_option,
    ]
    if search:
        options += [
            click.option("--filter", "search", metavar="TEXT", help="Only what has this text in any field."),
            click.option("--limit", type=click.IntRange(min=1), help="How many to show at most."),
        ]

    def decorate(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def show_rows(rows: Sequence[R], columns: Sequence[Column[R]], values: Mapping[str, Any], *, nothing: str) -> None:
    """Filter, sort and print what was found, as the options ask.

    Args:
        nothing: What people are told when there is none.
    """
    found = list(rows)
    if values.get("search"):
        found = filter_rows(found, columns, values["search"])
    found = sort_rows(found, values["sort_by"])
    total, limit = len(found), values.get("limit")
    shown = found if limit is None else found[:limit]
    if values["as_json"]:
        click.echo(json.dumps(plain_rows(shown, columns), indent=2))
        return
    if not shown:
        click.echo(nothing)
        return
    brief = [column for column in columns if not column.detail]
    click.echo(render_records(shown, columns) if values["detail"] else render_table(shown, brief))
    if len(shown) < total:
        click.echo(f"... and {total - len(shown)} more; --limit shows more of them", err=True)
