"""Calls of uv on this machine, and its errors as one line.

Invariant, with a test: a credential in an address appears in no error.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import attrs

from cloud_tasks.errors import InputError

__all__ = ["UvError", "call_uv", "uv_program"]

_QUIET = {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
_LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "FORCE_COLOR", "CLICOLOR_FORCE")
"""Variables that would change what the interpreter in a build environment finds, or the form of messages."""


@attrs.frozen(kw_only=True)
class UvError(Exception):
    """uv refused or failed."""

    summary: str
    """First line of its message."""
    causes: tuple[str, ...]
    """From the outermost to the first cause."""


def uv_program() -> str:
    """Return the path of the uv program of this environment.

    Raises:
        InputError: It is not installed.
    """
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise InputError("uv is not installed", hint="pip install uv") from error


def call_uv(*arguments: str, folder: Path, stdin: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Return what uv prints.

    Args:
        folder: Current folder, whose settings of uv apply.

    Raises:
        UvError: It failed.
    """
    environment = {**(os.environ if environ is None else environ), **_QUIET}
    for name in _LEFT_OUT:
        environment.pop(name, None)
    done = subprocess.run(
        [uv_program(), *arguments],
        cwd=folder,
        env=environment,
        input=stdin or "",
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise _error(done.stderr, done.returncode)
    return done.stdout


def _error(text: str, code: int) -> UvError:
    """Return the error that uv printed: ``error: …``, and ``cause: …`` for each cause, on one or more lines."""
    found = [" ".join(part.split()) for part in re.split(r"^ *(?:error|cause): ", text, flags=re.MULTILINE)[1:]]
    if not found:
        found = [" ".join(text.split())[-500:] or f"exit code {code}"]
    return UvError(summary=found[0], causes=tuple(found[1:]))
