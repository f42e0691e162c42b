"""Prompts of destructive commands."""

from __future__ import annotations

import sys

from cloud_tasks.cli.output import echo
from cloud_tasks.errors import InputError

__all__ = ["choose", "confirm", "is_interactive"]


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
    cancel = f" (Enter to cancel{alternative})" if instead else ""
    if _ask(f"This will {consequence}.\nType {answer} to confirm{cancel}: ") != answer:
        raise InputError("not confirmed, nothing was changed", hint=f"type {answer} to confirm{alternative}")


def choose(question: str, answers: str) -> str:
    """Prompt for one of several answers; return its letter.

    Args:
        question: Text that shows the answers.
        answers: First letters of the answers; the first one is the answer to an empty line.

    Raises:
        InputError: None of the answers was given.
    """
    given = _ask(question)
    if given is None:
        raise InputError("no answer, nothing was changed", hint=f"type one of {', '.join(answers)}")
    letter = given.lower()[:1] or answers[0]
    if letter not in answers:
        raise InputError(f'"{given}" is not an answer, nothing was changed', hint=f"type one of {', '.join(answers)}")
    return letter


def _ask(question: str) -> str | None:
    """Return the line that answers a question; None at the end of the input."""
    echo(question, err=True, nl=False)
    given = sys.stdin.readline()
    if not given.endswith("\n"):
        # The cursor is still behind the prompt.
        echo(err=True)
    return given.strip() if given else None
