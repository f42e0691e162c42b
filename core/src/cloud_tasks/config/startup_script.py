"""The startup script that a configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloud_tasks.config.provenance import Provenance
from cloud_tasks.errors import InputError
from cloud_tasks.escape import shell_word

__all__ = ["check_script", "read_script", "script_path", "started_by_script"]

_SHELLS = ("sh", "ash", "bash", "dash", "ksh", "mksh", "zsh")
"""Interpreters that accept ``export NAME=value``."""


def script_path(name: str, origin: Provenance | None, base_dir: Path) -> Path:
    """Return the path of a startup script: relative to the file that names it, else to the current folder."""
    path = Path(name).expanduser()
    return (base_dir if origin is not None and origin.is_in_file else Path.cwd()) / path


def read_script(path: Path, *, where: str) -> str:
    """Return the text of a startup script. Raises `InputError` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"cannot read the startup script {path}: {reason}", where=where) from error


def started_by_script(words: Sequence[str], *, setup: str | None, folder: str = "") -> str:
    """Return a script that executes a program which the instance has.

    Args:
        words: The program and its arguments.
        setup: Lines of shell that run before it; the first that fails ends the script.
        folder: Where both run; empty for the script's own folder.
    """
    lines = ["#!/bin/bash", *([f"cd {shell_word(folder)} || exit"] if folder else [])]
    lines += ["set -e", setup.rstrip(), "set +e"] if setup else []
    return "\n".join([*lines, f"exec {' '.join(map(shell_word, words))}", ""])


def check_script(script: str, *, where: str) -> None:
    """Raise `InputError` if a script is empty or not for a shell: exported variables are put after its first line."""
    if not script.strip():
        raise InputError("the startup script is empty", where=where, hint="add the command that starts a worker")
    interpreter = _interpreter(script)
    if interpreter is not None and interpreter not in _SHELLS:
        raise InputError(
            f'the startup script is for "{interpreter}", not for a shell; the job\'s variables are exported in it',
            where=where,
            hint="start with #!/bin/bash, and run the other program from there",
        )


def _interpreter(script: str) -> str | None:
    """Return the program of the ``#!`` line without its folder; None without such a line."""
    first = script.partition("\n")[0]
    words = first[2:].split() if first.startswith("#!") else []
    names = [word.rpartition("/")[2] for word in words if not word.startswith("-") and "=" not in word]
    return names[1] if len(names) > 1 and names[0] == "env" else names[0] if names else None
