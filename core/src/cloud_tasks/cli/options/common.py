"""Options that many commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cloud_tasks.errors import InputError

__all__ = [
    "all_regions_option",
    "allow_empty_option",
    "examples",
    "file_option",
    "force_option",
    "job_input_options",
    "json_option",
    "output_option",
    "verbose_option",
]

_F = TypeVar("_F", bound=Callable[..., Any])

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

verbose_option: Callable[[Any], Any] = click.option("--verbose", "-v", count=True, help="Show debug messages.")

force_option: Callable[[Any], Any] = click.option(
    "--force", "-f", "--yes", "-y", "force", is_flag=True, help="Skip the confirmation prompt."
)

allow_empty_option: Callable[[Any], Any] = click.option(
    "--allow-empty", is_flag=True, help="Accept a task source without tasks."
)


all_regions_option: Callable[[Any], Any] = click.option(
    "--all-regions", is_flag=True, help="Look in all regions of the provider, not only in the configured one."
)


def file_option(*names: str, help: str) -> Callable[[Any], Any]:
    """Return an option that takes the path of a file, which need not exist."""
    return click.option(*names, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=help)


class _OutputFile(click.Path):
    """Path of a file to write; the text ``-`` becomes None, which is standard output."""

    name = "file"

    def __init__(self, *, instead: str | None) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self._instead = instead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text, where = os.fspath(value), "" if param is None else param.opts[0]
        if text == "-":
            if self._instead is not None:
                raise InputError("cannot write to standard output", where=where, hint=self._instead)
            return None
        if not text.strip() or text.endswith(os.sep):
            raise InputError(f'not a file name: "{text}"', where=where, hint="give the path of a file")
        return super().convert(os.path.expanduser(text), param, ctx)


def output_option(*names: str, help: str, instead: str | None = None) -> Callable[[Any], Any]:
    """Return an option that takes the path of a file to write, or ``-`` for standard output.

    Args:
        instead: Remedy where standard output is refused; None: it is accepted, as the value None.
    """
    return click.option(*names, type=_OutputFile(instead=instead), metavar="FILE", help=help)


def job_input_options(function: _F) -> _F:
    """Add ``--task-file``, ``--start-task``, ``--limit``, ``--allow-empty`` and ``--dry-run`` to a command."""
    options = (
        click.option(
            "--task-file",
            metavar="FILE",
            help="Task source: a JSON, JSON Lines or YAML file or URL, - for standard input, or module:function "
            "(default: task_source).",
        ),
        click.option(
            "--start-task",
            type=click.IntRange(1, 10**12),
            default=1,
            metavar="N",
            help="Position of the first task to load (default: 1).",
        ),
        click.option(
            "--limit",
            type=click.IntRange(1, 10**12),
            metavar="N",
            help="Maximum number of tasks to load (default: all).",
        ),
        allow_empty_option,
        click.option("--dry-run", is_flag=True, help="Check everything and show what would be done; change nothing."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def examples(*lines: str) -> str:
    """Return the epilog of a command: its examples, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
