"""Skeleton of a plugin, for ``plugins new``.

Invariants, each with a test:

1. Its tests run as generated; failures name the class and method to implement.
2. Existing files are never overwritten.
"""

from __future__ import annotations

import importlib.resources
import re
import string
from collections.abc import Sequence
from pathlib import Path

import cloud_tasks
from cloud_tasks.errors import InputError

__all__ = ["write_skeleton"]

_NAME = re.compile(r"^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$")
# Names whose module `cloud_tasks_<name>` would hide one of this project.
_TAKEN = ("local", "gcp", "aws", "azure", "builtin")


def write_skeleton(name: str, kind: str, folder: Path) -> Sequence[Path]:
    """Write a distribution with one plugin; return its files, relative to the folder.

    Args:
        name: Name of the backend for users.
        kind: Kind of backend: ``queue``, ``compute``, ``pricing``, ``event_sink`` or ``task_source``.

    Raises:
        InputError: The name is invalid or taken, or the folder is not empty.
    """
    if not _NAME.match(name):
        raise InputError(f'"{name}" is not a valid plugin name', hint="use a-z, 0-9 and single dashes")
    if name in _TAKEN:
        raise InputError(f'plugin name "{name}" is taken', hint="choose another")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("exists and is not empty", where=str(folder), hint="choose another with --directory")
    identifier = name.replace("-", "_")
    words = {
        "name": name,
        "module": f"cloud_tasks_{identifier}",
        "cls": "".join(word.capitalize() for word in name.split("-")),
        "kind": kind,
        "kind_words": kind.replace("_", " "),
        "version": cloud_tasks.__version__,
    }
    package = Path("src") / words["module"]
    files = {
        Path("pyproject.toml"): "pyproject.toml",
        Path("README.md"): "README.md",
        package / "__init__.py": "init.py",
        package / "settings.py": "settings.py",
        package / "plugin.py": f"{kind}_plugin.py",
        package / f"{kind}.py": f"{kind}.py",
        Path("tests/test_conformance.py"): f"{kind}_conformance.py",
        Path("tests/test_plugin.py"): "test_plugin.py",
    }
    for file, template in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(_filled(template, words), encoding="utf-8")
    (folder / package / "py.typed").touch()
    return (*files, package / "py.typed")


def _filled(template: str, words: dict[str, str]) -> str:
    source = importlib.resources.files("cloud_tasks.cli.scaffold") / "skeleton" / f"{template}.txt"
    return string.Template(source.read_text(encoding="utf-8")).substitute(words)
