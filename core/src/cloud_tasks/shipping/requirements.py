"""The requirements of a program: as given in the configuration, or found beside it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import attrs

from cloud_tasks.errors import InputError

__all__ = ["Requirements", "find_requirements"]

_FOUND = ("requirements.txt", "uv.lock", "pyproject.toml")
"""Files that are looked for, in this order."""
_SCRIPT_BLOCK = re.compile(r"^# /// script\s*$\n(?P<content>(?:^#(?:| .*)$\n?)+?)^# ///\s*$", re.MULTILINE)
"""Metadata in a program (https://packaging.python.org/en/latest/specifications/inline-script-metadata/)."""


@attrs.frozen(kw_only=True)
class Requirements:
    """Packages that a program needs besides cloud-tasks. Either ``file`` or ``lines``."""

    folder: Path
    """Folder that relative paths in ``lines`` refer to, and whose settings of uv apply."""
    file: Path | None = None
    """A requirements file of pip, a ``pyproject.toml`` or a ``uv.lock``."""
    lines: tuple[str, ...] = ()
    """Lines of a requirements file."""
    where: str = ""
    """Place of ``lines`` or of the file's name, for errors."""

    @classmethod
    def from_file(cls, file: Path, *, where: str = "") -> Requirements:
        """Return the requirements of a file.

        Raises:
            InputError: The file does not exist.
        """
        if not file.is_file():
            raise InputError(f"no requirements file {file}", where=where, hint="correct the path")
        return cls(file=file, folder=file.parent, where=where or str(file))

    @classmethod
    def from_lines(cls, lines: Sequence[str], *, folder: Path, where: str) -> Requirements:
        """Return requirements that were given as a list."""
        return cls(lines=tuple(lines), folder=folder, where=where)


def find_requirements(folder: Path, program: Path | None = None) -> Requirements | None:
    """Return the requirements that a program has beside it; None if there are none.

    They are, the first that exists: the metadata block ``# /// script`` of the program, ``requirements.txt``,
    ``uv.lock`` or ``pyproject.toml`` in the folder of the program, then in ``folder``.

    Raises:
        InputError: The metadata block is invalid.
    """
    if program is not None and (found := _script_requirements(program)) is not None:
        return found
    for place in dict.fromkeys([*([program.parent] if program else []), folder]):
        for name in _FOUND:
            if (place / name).is_file() and (name != "pyproject.toml" or _is_project(place / name)):
                return Requirements.from_file(place / name)
    return None


def _is_project(file: Path) -> bool:
    """Return whether a ``pyproject.toml`` describes a project, not only settings of tools."""
    return (
        re.search(r"^\s*\[\s*project\s*\]", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        is not None
    )


def _script_requirements(program: Path) -> Requirements | None:
    try:
        text = program.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    block = _SCRIPT_BLOCK.search(text)
    if block is None:
        return None
    content = re.sub(r"^# ?", "", block["content"], flags=re.MULTILINE)
    try:
        lines = tomllib.loads(content).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        line = text.count("\n", 0, block.start()) + 1
        raise InputError(f"invalid metadata block: {error}", where=f"{program}:{line}") from error
    return Requirements.from_lines(lines, folder=program.parent, where=str(program))
