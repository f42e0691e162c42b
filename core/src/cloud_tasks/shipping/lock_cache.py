"""Locks that are kept: the same requirements give the same versions, and need no network.

A lock is valid as long as its inputs stay as they are, however old it is: a job that runs again next month runs the
same code. Other versions are resolved after a change of the requirements, of cloud-tasks, of uv or of its settings. A
lock that was not used for two weeks is deleted with the pieces.

Invariants, each with a test:

1. A lock is used only with the inputs that it was made from, the content of local projects included.
2. A damaged file in the cache counts as absent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cloud_tasks.escape import without_credentials
from cloud_tasks.shipping.lock import Lock, make_lock
from cloud_tasks.shipping.piece import replace_file
from cloud_tasks.shipping.requirements import Requirements
from cloud_tasks.shipping.wheels import Wheel

__all__ = ["cached_lock"]

_FORMAT = 1
_VARIABLES = (
    "UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_DEFAULT_INDEX", "UV_EXCLUDE_NEWER", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
    "UV_FORK_STRATEGY", "UV_INDEX", "UV_INDEX_STRATEGY", "UV_INDEX_URL", "UV_NO_CONFIG", "UV_NO_INDEX", "UV_NO_SOURCES",
    "UV_OVERRIDE", "UV_PRERELEASE", "UV_RESOLUTION",
)  # fmt: skip
"""Variables that change what uv resolves (https://docs.astral.sh/uv/reference/environment/)."""
_BUILD_FOLDERS = frozenset({"build", "dist", "__pycache__", "node_modules"})


def cached_lock(
    requirements: Requirements, *, wheels: Sequence[tuple[Wheel, str]], pins: Sequence[str], cache: Path
) -> Lock:
    """Return the lock as `make_lock` does, from the cache if it has it.

    Raises:
        InputError: The requirements are invalid, or cannot be fulfilled.
    """
    inputs = {
        "format": [_FORMAT, version("uv"), sys.version_info[:2]],
        "wheels": [[wheel.metadata, extras] for wheel, extras in wheels],
        "pins": list(pins),
        "texts": [[str(file), text] for file, text in requirements.texts()],
        "folder": [str(requirements.folder), requirements.python],
        "settings": list(_settings(requirements.folder)),
    }
    digest = hashlib.sha256(json.dumps(inputs, default=str).encode("utf-8", "surrogatepass")).hexdigest()
    file = cache / f"lock-{digest[:32]}.json"
    if (known := _read(file)) is not None:
        return known
    lock = make_lock(requirements, wheels=wheels, pins=pins)
    cache.mkdir(parents=True, exist_ok=True)
    replace_file(file, json.dumps(_plain(lock)).encode())
    return lock


def _settings(folder: Path) -> Iterator[Any]:
    """Yield the settings of uv: variables, and tables of the configuration files that it may read."""
    yield {name: without_credentials(os.environ[name]) for name in _VARIABLES if name in os.environ}
    files = [place / name for place in (folder, *folder.parents) for name in ("uv.toml", "pyproject.toml")]
    home = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    for file in (*files, home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")):
        try:
            found = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if file.name == "pyproject.toml":
            found = found.get("tool", {}).get("uv", {})
        if found:
            yield [str(file), found]


def _plain(lock: Lock) -> dict[str, Any]:
    wheels = [{**_texts(wheel), "content": base64.b64encode(wheel.content).decode()} for wheel in lock.wheels]
    projects = {str(path): _tree_digest(path) for path in lock.local_projects}
    return {
        "worker": lock.worker,
        "program": lock.program,
        "python": lock.python,
        "wheels": wheels,
        "local_projects": projects,
    }


def _texts(wheel: Wheel) -> dict[str, str]:
    return {"name": wheel.name, "version": wheel.version, "metadata": wheel.metadata}


def _read(file: Path) -> Lock | None:
    """Return a lock; None if the file is absent or damaged, or a local project has changed."""
    try:
        found = json.loads(file.read_bytes())
        projects = {Path(path): digest for path, digest in found.pop("local_projects").items()}
        if any(_tree_digest(path) != digest for path, digest in projects.items()):
            return None
        wheels = [Wheel(**{**each, "content": base64.b64decode(each["content"])}) for each in found.pop("wheels")]
        lock = Lock(**found, wheels=tuple(wheels), local_projects=tuple(projects))
        os.utime(file)
        return lock
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _tree_digest(folder: Path) -> str:
    """Return a digest of the files of a project."""
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _BUILD_FOLDERS and not name.startswith(".") and not name.endswith(".egg-info")
        )
        for name in sorted(files):
            path = Path(place, name)
            if path.is_file():
                digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
                digest.update(path.read_bytes())
    return digest.hexdigest()
