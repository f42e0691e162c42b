"""Output of commands: the one place that prints text, with control characters escaped."""

from __future__ import annotations

import click

from cloud_tasks.escape import terminal_text

__all__ = ["echo"]


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text that may come from tasks: line breaks and tabs stay, other control characters are escaped.

    Args:
        err: Print to standard error.
        nl: End with a line break.
    """
    click.echo(terminal_text(text), err=err, nl=nl)
