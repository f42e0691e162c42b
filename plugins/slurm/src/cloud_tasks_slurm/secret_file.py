"""Secrets of a job, in a file that only its user can read, which the job reads and deletes before the script.

Invariant, with a test: they are in no argument, variable or script of sbatch, and the file does not outlive its job.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["reading_lines", "remove_secrets", "write_secrets"]


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.secrets"


def write_secrets(folder: Path, name: str, secrets: Mapping[str, str]) -> None:
    """Write the secrets of a job, by variable; nothing without any."""
    remove_secrets(folder, name)
    if secrets:
        descriptor = os.open(_file(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as out:
            out.writelines(f"export {variable}={shlex.quote(value)}\n" for variable, value in secrets.items())


def reading_lines(folder: Path, name: str, secrets: Mapping[str, str]) -> Sequence[str]:
    """Return the lines of the script that read and delete the file; none without secrets."""
    if not secrets:
        return []
    path = shlex.quote(str(_file(folder, name)))
    missing = "echo 'the secrets of this job are gone: it has run before' >&2; exit 1"
    return [f"if [ -r {path} ]; then . {path}; rm -f {path}; else {missing}; fi"]


def remove_secrets(folder: Path, name: str) -> None:
    """Delete the file of a job that does not start any more, if there is one."""
    _file(folder, name).unlink(missing_ok=True)
