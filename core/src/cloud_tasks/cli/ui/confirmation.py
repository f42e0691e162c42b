"""Confirmation prompt of destructive commands."""

from __future__ import annotations

import sys

import click

from cloud_tasks.errors import InputError

__all__ = ["confirm", "is_interactive"]


def is_interactive() -> bool:
    """Return whether prompts can be answered: standard input is a terminal."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def confirm(consequence: str, *, force: bool, answer: str = "YES", instead: str = "") -> None:
    """Prompt for confirmation of a destructive action.

    Args:
        consequence: The action, as the end of a sentence that starts with "This will".
        force: Whether the command line confirms the action.
        answer: Text that confirms, to be typed exactly.
        instead: Alternative to confirming, for the error.

    Raises:
        InputError: The answer differs, or standard input is not a terminal.
    """
    if force:
        return
    alternative = f", or {instead}" if instead else ""
    if not is_interactive():
        raise InputError(f"this would {consequence}", hint=f"add --force to confirm{alternative}")
    click.echo(f"This will {consequence}.\nType {answer} to confirm: ", err=True, nl=False)
    given = sys.stdin.readline()
    if not given.endswith("\n"):
        # End of input: the cursor is still behind the prompt.
        click.echo(err=True)
    if given.strip() != answer:
        raise InputError("not confirmed, nothing was changed", hint=f"type {answer} to confirm{alternative}")
