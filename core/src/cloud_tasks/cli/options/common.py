"""Options that many commands have, and the confirmation before something is destroyed, each written once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cloud_tasks.errors import InputError

__all__ = ["confirm", "examples", "force_option", "is_interactive", "json_option", "verbose_option"]

_F = TypeVar("_F", bound=Callable[..., Any])

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")

verbose_option: Callable[[Any], Any] = click.option(
    "--verbose", "-v", count=True, help="More log lines; may be given again."
)


force_option: Callable[[Any], Any] = click.option(
    "--force", "-f", "--yes", "-y", "force", is_flag=True, help="Skip the confirmation prompt."
)


def examples(*lines: str) -> str:
    """The epilog of a command: examples, one a line, left as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def is_interactive() -> bool:
    """Return whether somebody can answer a prompt: standard input is a terminal."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def confirm(consequence: str, *, force: bool, answer: str = "YES", instead: str = "") -> None:
    """Ask before something is destroyed.

    Args:
        consequence: What is about to happen, as the end of a sentence that begins with "This will".
        force: Whether the user has confirmed on the command line.
        answer: What has to be typed, exactly.
        instead: What else can be done, for the error.

    Raises:
        InputError: The answer is another, or nobody can be asked.
    """
    if force:
        return
    alternative = f", or {instead}" if instead else ""
    if not is_interactive():
        raise InputError(f"this would {consequence}", hint=f"add --force to confirm{alternative}")
    click.echo(f"This will {consequence}.\nType {answer} to confirm: ", err=True, nl=False)
    given = sys.stdin.readline()
    if not given.endswith("\n"):
        # The end of the input leaves the cursor behind the prompt.
        click.echo(err=True)
    if given.strip() != answer:
        raise InputError("not confirmed, nothing was changed", hint=f"type {answer} to confirm{alternative}")
