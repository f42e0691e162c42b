"""The confirmation prompt before something is destroyed."""

from __future__ import annotations

import sys

import click

from cloud_tasks.errors import InputError

__all__ = ["confirm", "is_interactive"]


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
