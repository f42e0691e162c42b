"""Output of commands: the one place that prints text, with control characters escaped.

Invariant, with a test: a reader that has closed its pipe, as ``head`` does, ends nothing. The rest of the output goes
nowhere, and the exit code is that of the command.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import click

from cloud_tasks.escape import terminal_text

__all__ = ["echo", "until_closed"]


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text that may come from tasks: line breaks and tabs stay, other control characters are escaped.

    Args:
        err: Print to standard error.
        nl: End with a line break.
    """
    with until_closed(2 if err else 1):
        click.echo(terminal_text(text), err=err, nl=nl)


@contextlib.contextmanager
def until_closed(descriptor: int) -> Iterator[None]:
    """End the block where the reader of a standard stream has closed its pipe; later output goes nowhere."""
    try:
        yield
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nothing, descriptor)
            os.close(nothing)
