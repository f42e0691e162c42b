"""The requirements of a program: as given in the configuration, or found beside it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks.errors import InputError

__all__ = ["Requirements", "find_requirements"]

_FOUND = ("requirements.txt", "uv.lock", "pyproject.toml")
"""Files that are looked for, in this order."""
_SCRIPT_BLOCK = re.compile(r"^# /// script\s*$\n(?P<content>(?:^#(?:| .*)$\n?)+?)^# ///\s*$", re.MULTILINE)
"""Metadata in a program (https://packaging.python.org/en/latest/specifications/inline-script-metadata/)."""
_INCLUDED = re.compile(r"^\s*(?:-r|-c|--requirements?|--constraints?)[ =]*(\S.*?)\s*(?:\s#.*)?$", re.MULTILINE)
_INDEX_OPTION = re.compile(
    r"^\s*((?:-i|-f|--index-url|--extra-index-url|--find-links|--no-index|--index|--default-index)\b.*?)\s*(?:\s#.*)?$"
)


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
    """Where they were given, for errors."""
    python: str = ""
    """Versions of Python that the program supports, such as ``>=3.12``; empty if not given."""

    @classmethod
    def from_file(cls, file: Path, *, where: str = "") -> Requirements:
        """Return the requirements of a file.

        Raises:
            InputError: The file does not exist, or is a ``pyproject.toml`` that is invalid.
        """
        if not file.is_file():
            raise InputError(f"no requirements file {file}", where=where, hint="correct the path")
        python = ""
        if file.name in ("pyproject.toml", "uv.lock") and (project := file.with_name("pyproject.toml")).is_file():
            python = str(_read_project(project).get("requires-python", ""))
        return cls(file=file.absolute(), folder=file.absolute().parent, where=where, python=python)

    @classmethod
    def from_lines(cls, lines: Sequence[str], *, folder: Path, where: str, python: str = "") -> Requirements:
        """Return requirements that were given as a list."""
        return cls(lines=tuple(lines), folder=folder.absolute(), where=where, python=python)

    def is_project(self) -> bool:
        """Return whether they are those of a project that uv installs as well: it says how it is built."""
        if self.file is None or self.file.name != "pyproject.toml":
            return False
        content = _read_toml(self.file)
        return bool(_table(_table(content, "tool"), "uv").get("package", "build-system" in content))

    def files(self) -> tuple[Path, ...]:
        """Return the files that the requirements are read from, included ones as well."""
        if self.file is not None and self.file.name == "uv.lock":
            return (self.file, self.file.with_name("pyproject.toml"))
        found = [] if self.file is None else [self.file]
        found += _included("\n".join(self.lines), self.folder)
        for file in found:
            if file.suffix != ".toml":
                found += [each for each in _included(_text(file), file.parent) if each not in found]
        return tuple(found)

    def texts(self) -> Iterator[tuple[Path | None, str]]:
        """Yield the texts that the requirements are read from, with their files; None for ``lines``."""
        if self.lines:
            yield None, "\n".join([*self.lines, ""])
        for file in self.files():
            yield file, _text(file)

    def index_options(self) -> tuple[str, ...]:
        """Return the lines with package indexes."""
        options = []
        for file, text in self.texts():
            if file is None or file.suffix not in (".toml", ".lock"):
                options += [found[1] for line in text.splitlines() if (found := _INDEX_OPTION.match(line))]
        return tuple(dict.fromkeys(options))


def find_requirements(folder: Path, program: Path | None = None) -> Requirements | None:
    """Return the requirements that a program has beside it; None if there are none.

    They are, the first that exists: the metadata block ``# /// script`` of the program, ``requirements.txt``,
    ``uv.lock`` or ``pyproject.toml`` in the folder of the program, then in ``folder``.

    Raises:
        InputError: The metadata block or the ``pyproject.toml`` is invalid.
    """
    if program is not None and (found := _script_requirements(program)) is not None:
        return found
    for place in dict.fromkeys([*([program.parent] if program else []), folder]):
        for name in _FOUND:
            # A `pyproject.toml` may have nothing but settings of tools.
            if (place / name).is_file() and (name != "pyproject.toml" or _read_project(place / name)):
                return Requirements.from_file(place / name)
    return None


def _included(text: str, folder: Path) -> list[Path]:
    """Return the files that a requirements file includes and that exist; uv reports the others."""
    paths = [Path(os.path.normpath(folder / name)) for name in _INCLUDED.findall(text) if "://" not in name]
    return [path for path in paths if path.is_file()]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_project(file: Path) -> dict[str, Any]:
    """Return the section ``project``; empty if there is none."""
    return _table(_read_toml(file), "project")


def _table(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"invalid TOML: {error}", where=str(file)) from error


def _script_requirements(program: Path) -> Requirements | None:
    text = _text(program)
    block = _SCRIPT_BLOCK.search(text)
    if block is None:
        return None
    where = f"{program}:{text.count(chr(10), 0, block.start()) + 1}"
    try:
        content = tomllib.loads(re.sub(r"^# ?", "", block["content"], flags=re.MULTILINE))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"invalid metadata block: {error}", where=where) from error
    lines = content.get("dependencies", [])
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InputError("invalid metadata block: dependencies must be a list of texts", where=where)
    python = str(content.get("requires-python", ""))
    return Requirements.from_lines(lines, folder=program.parent, where=where, python=python)
