"""Skeleton of a plugin, for ``plugins new``.

Invariants, each with a test:

1. Its tests run as generated; failures name the class and method to implement.
2. Existing files are never overwritten: a kind that is added to a skeleton has files of its own, and the hook to be
   added to the existing module is returned.
"""

from __future__ import annotations

import importlib.resources
import re
import string
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import attrs

import cloud_tasks
from cloud_tasks.errors import InputError

__all__ = ["KINDS", "Skeleton", "write_skeleton"]

_NAME = re.compile(r"^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$")
# Names whose module `cloud_tasks_<name>` would hide one of this project, also where that is not installed.
_TAKEN = ("local", "gcp", "aws", "azure", "builtin")
_RESERVED = (
    "run",
    "provider",
    "queue",
    "compute",
    "pricing",
    "true",
    "false",
    "null",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
)
"""Keys at the top level of a configuration, and words that YAML reads as another value than text."""


@attrs.frozen
class _Kind:
    modules: tuple[str, ...]
    """Modules of its own; the first has the implementation."""
    shared: tuple[str, ...] = ()
    """Further modules, which kinds may share."""
    names: tuple[str, ...] = ()
    """Names of `cloud_tasks.plugin` in its hook."""
    on_instances: bool = False
    """Whether workers open it, so that they need its settings."""


KINDS: Mapping[str, _Kind] = {
    "compute": _Kind(
        ("compute", "instance_side", "checks"), ("service",), ("ComputeBackend", "ComputeTraits"), on_instances=True
    ),
    "pricing": _Kind(("pricing",), (), ("PricingBackend",)),
    "queue": _Kind(("queue", "traits"), ("service",), ("QueueBackend",), on_instances=True),
    "event_sink": _Kind(("event_sink",), (), ("EventSinkBackend",)),
    "task_source": _Kind(("task_source",), (), ("TaskSourceBackend",)),
}


@attrs.frozen(kw_only=True)
class Skeleton:
    """What was written."""

    files: Sequence[Path]
    """Relative to the folder."""
    hooks: str = ""
    """Code to be added to the existing module of the entry point; empty for a new distribution."""
    hooks_file: Path | None = None
    """That module."""


def write_skeleton(name: str, kinds: Collection[str], folder: Path, *, taken: Mapping[str, str]) -> Skeleton:
    """Write a distribution with one plugin, or add kinds of backends to one that was written before.

    Args:
        name: Name of the backends for users.
        kinds: Keys of `KINDS`.
        taken: Names of installed plugins and backends, each with its distribution.

    Raises:
        InputError: The name is invalid or taken, or the folder has other files.
    """
    if not _NAME.match(name):
        raise InputError(f'"{name}" is not a valid plugin name', hint="use a-z, 0-9 and single dashes")
    kinds = [kind for kind in KINDS if kind in kinds]
    if name in _RESERVED:
        raise InputError(f'plugin name "{name}" has another meaning in configurations', hint="choose another")
    words = _words(name, kinds)
    exists = _has_plugin(folder, name, words["module"])
    if name in _TAKEN or (name in taken and not (exists and taken[name] == f"cloud-tasks-{name}")):
        owner = f" by {taken[name]}" if name in taken else ""
        raise InputError(f'plugin name "{name}" is taken{owner}', hint="choose another")
    if not exists and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("exists and is not empty", where=str(folder), hint="choose another with --directory")
    files = _files(kinds, Path("src") / words["module"])
    if exists:
        own = [file for file, template in files.items() if template.partition(".")[0] in _own_names(kinds)]
        for file in own:
            if (folder / file).exists():
                raise InputError("exists", where=str(folder / file), hint="each kind can be added once")
        shared = [Path("src") / words["module"] / f"{each}.py" for each in ("todo", *_shared(kinds))]
        missing = [file for file in shared if not (folder / file).exists()]
        files = {file: files[file] for file in (*own, *missing)}
    described = _described(folder, name, kinds) if exists else {}
    for file, template in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(_filled(template, words), encoding="utf-8")
    if exists:
        hooks = "\n\n".join((*filter(None, (words["imports"], words["own_imports"])), words["hooks"]))
        for file, text in described.items():
            (folder / file).write_text(text, encoding="utf-8")
        return Skeleton(files=(*files, *described), hooks=hooks, hooks_file=Path("src") / words["module"] / "plugin.py")
    (folder / "src" / words["module"] / "py.typed").touch()
    return Skeleton(files=(*files, Path("src") / words["module"] / "py.typed"))


def _files(kinds: Collection[str], package: Path) -> dict[Path, str]:
    """Return the template of each file."""
    modules = ["settings", "plugin", "todo", *_shared(kinds), *(each for kind in kinds for each in KINDS[kind].modules)]
    return {
        Path("pyproject.toml"): "pyproject.toml",
        Path("README.md"): "README.md",
        package / "__init__.py": "init.py",
        **{package / f"{each}.py": f"{each}.py" for each in modules},
        Path("tests/conftest.py"): "conftest.py",
        Path("tests/test_plugin.py"): "test_plugin.py",
        **{Path(f"tests/test_{kind}_conformance.py"): f"{kind}_conformance.py" for kind in kinds},
    }


def _described(folder: Path, name: str, added: Collection[str]) -> dict[Path, str]:
    """Return the new text of each file that describes the plugin and is as it was written."""
    package = folder / "src" / _words(name, [*added])["module"]
    present = [kind for kind in KINDS if (package / f"{KINDS[kind].modules[0]}.py").exists()]
    old = _words(name, present)
    new = _words(name, [kind for kind in KINDS if kind in (*present, *added)])
    found = {}
    for template in ("pyproject.toml", "README.md"):
        file = folder / template
        if present and file.is_file() and file.read_text(encoding="utf-8") == _filled(template, old):
            found[Path(template)] = _filled(template, new)
    return found


def _own_names(kinds: Iterable[str]) -> set[str]:
    return {each for kind in kinds for each in (*KINDS[kind].modules, f"{kind}_conformance")}


def _shared(kinds: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(each for kind in kinds for each in KINDS[kind].shared))


def _words(name: str, kinds: Sequence[str]) -> dict[str, str]:
    """Return the words of the templates."""
    module = f"cloud_tasks_{name.replace('-', '_')}"
    cls = "".join(word.capitalize() for word in name.split("-"))
    titles = [kind.replace("_", " ") for kind in kinds]
    summary = " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1]))).capitalize()
    doctor = f"\n6. Run `cloud-tasks doctor --provider {name}`: it shows the checks of `src/{module}/checks.py`."
    words = {
        "name": name,
        "module": module,
        "cls": cls,
        "summary": summary,
        "version": cloud_tasks.__version__,
        "next_version": _next_version(cloud_tasks.__version__),
        "modules": ", ".join(f"`src/{module}/{KINDS[kind].modules[0]}.py`" for kind in kinds),
        "doctor": doctor if "compute" in kinds else "",
        "kind_list": "[" + ", ".join(f'"{kind}"' for kind in kinds) + "]",
        "for_worker": ", worker=True" if any(KINDS[kind].on_instances for kind in kinds) else "",
        "imports": _import_of([*(each for kind in kinds for each in KINDS[kind].names), "hookimpl"]),
        "own_imports": f"from {module}.traits import QUEUE_TRAITS\n" if "queue" in kinds else "",
    }
    words["hooks"] = "\n\n".join(_filled(f"hook_{kind}", words) for kind in kinds).rstrip("\n")
    return words


def _import_of(names: Iterable[str]) -> str:
    # Classes first, as tools that sort imports order them.
    ordered = sorted(names, key=lambda name: (name.islower(), name))
    line = f"from cloud_tasks.plugin import {', '.join(ordered)}"
    return line if len(line) <= 120 else "from cloud_tasks.plugin import (\n    " + ",\n    ".join(ordered) + ",\n)"


def _next_version(version: str) -> str:
    """Return the first release that may be incompatible: before 1.0, that is the next minor one."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return f"0.{minor + 1}" if major == 0 else f"{major + 1}"


def _has_plugin(folder: Path, name: str, module: str) -> bool:
    """Return whether the folder has a distribution whose entry point is that of this skeleton."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return bool(project["entry-points"]["cloud_tasks"][name] == f"{module}.plugin")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _filled(template: str, words: dict[str, str]) -> str:
    source = importlib.resources.files("cloud_tasks.cli.scaffold") / "skeleton" / f"{template}.txt"
    text = string.Template(source.read_text(encoding="utf-8")).substitute(words)
    return text.replace("\n\n\n\n", "\n\n\n")
