"""The files of a distribution that is installed in editable form: what Python imports for its top-level modules.

An editable installation records no modules, only how Python finds them: a folder in a ``.pth`` file, or an import
hook. The names of the modules are from ``top_level.txt``, the folders of the ``.pth`` files, the entry points, and the
name of the distribution; where the modules are is what the import system answers.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cloud_tasks.shipping.secret_files import secret_files
from cloud_tasks.store import is_job_database

__all__ = ["editable_files", "source_folder"]


def editable_files(distribution: Distribution) -> Iterator[tuple[str, Path]]:
    """Yield the files of the modules of a distribution, by their place in a wheel."""
    root = source_folder(distribution)
    for name in sorted(_top_level_names(distribution, root)):
        for place in _places(name):
            if not place.resolve().is_relative_to(root):
                continue
            if place.is_dir():
                yield from _package_files(place, name)
            else:
                yield place.name, place


def source_folder(distribution: Distribution) -> Path:
    """Return the folder from which a distribution was installed."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    path = unquote(urlsplit(origin.get("url", "")).path) or str(distribution.locate_file(""))
    return Path(path).resolve()


def _top_level_names(distribution: Distribution, root: Path) -> set[str]:
    names = {line.strip() for line in (distribution.read_text("top_level.txt") or "").splitlines()}
    names |= {entry.module.partition(".")[0] for entry in distribution.entry_points}
    names.add(distribution.metadata["Name"].replace("-", "_").replace(".", "_"))
    for recorded in distribution.files or ():
        if recorded.suffix == ".pth":
            names |= _names_in_folders(Path(str(distribution.locate_file(recorded))), root)
    return {name for name in names if name.isidentifier()}


def _names_in_folders(pth: Path, root: Path) -> set[str]:
    """Return the modules in the folders of a ``.pth`` file, but not of the whole project, which has others as well."""
    names: set[str] = set()
    for line in pth.read_text(encoding="utf-8").splitlines():
        folder = pth.parent / line.strip()
        if line.strip() and not line.startswith("import") and folder.is_dir() and folder.resolve() != root:
            names |= {entry.stem for entry in folder.iterdir() if entry.is_dir() or entry.suffix == ".py"}
    return names


def _places(name: str) -> Iterator[Path]:
    """Yield the folders of a package, or the file of a module, that Python imports for a name."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return
    if found is None:
        return
    if found.submodule_search_locations is not None:
        yield from (Path(place) for place in found.submodule_search_locations)
    elif found.origin is not None and Path(found.origin).is_file():
        yield Path(found.origin)


def _package_files(package: Path, name: str) -> Iterator[tuple[str, Path]]:
    files = []
    for folder, folders, entries in os.walk(package):
        folders[:] = sorted(each for each in folders if each != "__pycache__" and not each.startswith("."))
        files += [os.path.relpath(os.path.join(folder, each), package) for each in sorted(entries)]
    secrets = set(secret_files(package, files))
    for file in files:
        path = package / file
        if file.endswith(".pyc") or file in secrets or not path.is_file() or is_job_database(path):
            continue
        if any("\ud800" <= letter <= "\udfff" for letter in file):
            continue  # A wheel has no names that are not UTF-8.
        yield f"{name}/{Path(file).as_posix()}", path
