"""Options that many commands have, each written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["examples", "force_option", "json_option", "verbose_option"]

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
