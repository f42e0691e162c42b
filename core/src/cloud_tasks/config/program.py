"""The program that ``run.program`` names: a file or a module with its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import attrs

from cloud_tasks.errors import InputError

__all__ = ["Program", "job_name", "parse_program"]

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@attrs.frozen(kw_only=True)
class Program:
    """A Python program that creates a `Worker`, and how it is started in the configuration's folder."""

    words: tuple[str, ...]
    """Arguments of the interpreter: ``("find_craters.py", "--depth", "3")``, or ``("-m", "craters.find")``."""
    file: Path | None
    """The file; None for a module."""


def parse_program(text: str, *, folder: Path, base_dir: Path, where: str) -> Program:
    """Return a program.

    Args:
        text: The value of ``run.program``, with options quoted as in a shell.
        folder: Folder to which the file is relative.
        base_dir: Folder of the configuration, whose files are shipped, and in which the program runs.
        where: Place of the value in messages.

    Raises:
        InputError: The file does not exist or is outside of ``base_dir``, or the name is neither a file nor a module.
    """
    try:
        first, *options = shlex.split(text)
    except ValueError as error:
        raise InputError(f"run.program: {str(error).lower()}", where=where, hint="quote as in a shell") from error
    if not first.endswith(".py") and "/" not in first:
        if not _MODULE.fullmatch(first):
            hint = "name a file that ends with .py, or a module such as package.module"
            raise InputError(f'run.program: "{first}" is neither a file nor a module', where=where, hint=hint)
        return Program(words=("-m", first, *options), file=None)
    file = folder / Path(first).expanduser()
    if not file.is_file():
        raise InputError(f"run.program: file not found: {file}", where=where)
    try:
        relative = file.resolve().relative_to(base_dir.resolve())
    except ValueError:
        hint = f"move it there, or keep the configuration in {file.resolve().parent}"
        raise InputError(f"run.program: {file} is not below {base_dir}", where=where, hint=hint) from None
    name = relative.as_posix()
    return Program(words=(f"./{name}" if name.startswith("-") else name, *options), file=file.resolve())


def job_name(text: str) -> str | None:
    """Return the name of a job that has none, from its program: ``find-craters`` for ``src/find_craters.py``.

    None for a program whose name has no letters or digits of ASCII.
    """
    first = text.split()[0] if text.split() else ""
    stem = first.rpartition("/")[2].removesuffix(".py").rpartition(".")[2]
    name = re.sub("[^a-z0-9]+", "-", stem.lower()).strip("-")
    return re.sub("^([0-9])", r"job-\1", name)[:24].rstrip("-") or None
