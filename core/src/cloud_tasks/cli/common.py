"""Options that many commands have, each written once; and asking before something is destroyed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cloud_tasks.errors import InputError

__all__ = ["confirm_by_typing", "examples", "json_option", "verbose_option"]

_F = TypeVar("_F", bound=Callable[..., Any])

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")

verbose_option: Callable[[Any], Any] = click.option(
    "--verbose", "-v", count=True, help="More log lines; may be given again."
)


def examples(*lines: str) -> str:
    """The epilog of a command: examples, one a line, left as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def confirm_by_typing(consequence: str, words: str, *, hint: str) -> None:
    """Ask before something is destroyed.

    Args:
        consequence: What is about to happen, as a sentence that goes on after "This will ".
        words: What has to be typed.
        hint: What else can be done, for the error.

    Raises:
        InputError: Nobody can answer, or the answer is another.
    """
    if not sys.stdin.isatty():
        raise InputError(f"this would {consequence}", hint=hint)
    click.echo(f"This will {consequence}.", err=True)
    if click.prompt(f"Type {words} to go on", err=True, default="", show_default=False).strip() != words:
        raise InputError("not confirmed, nothing was changed", hint=hint)
