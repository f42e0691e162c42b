"""Wheels of installed distributions, repacked from the files that are imported here and their metadata.

So the machines run what the controller runs, however it was installed: from an index, from git, or editable.

Invariants, each with a test:

1. A wheel is valid: pip and uv install it, and its ``RECORD`` has the digest of each file.
2. An editable and a usual installation of the same files give the same wheel, byte for byte.
3. No wheel has a file that belongs to this machine: bytecode, addresses of the installation, secrets.
4. A distribution with modules compiled for this platform is never repacked.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

from cloud_tasks.errors import InputError
from cloud_tasks.shipping.editable_files import editable_files

__all__ = ["CompiledError", "NoModulesError", "Wheel", "canonical_name", "is_from_an_index", "repack"]

_COMPILED = re.compile(r"\.(so(\.\d+)*|pyd|dylib|dll)\Z")
_LOCAL = frozenset({"RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json"})
"""Files of ``.dist-info`` that are written again, or that belong to this installation."""
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP archive can have."""
_WHEEL = "Wheel-Version: 1.0\nGenerator: cloud-tasks\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class CompiledError(InputError):
    """A distribution has modules that were compiled for this platform."""


class NoModulesError(InputError):
    """The modules of an editable distribution are not found."""


@attrs.frozen(kw_only=True)
class Wheel:
    """A wheel for every platform."""

    name: str
    """Name of the distribution in its canonical form."""
    version: str
    content: bytes = attrs.field(repr=False)
    metadata: str = attrs.field(repr=False)
    """The file ``METADATA``."""

    @property
    def file_name(self) -> str:
        return f"{_stem(self.name, self.version)}-py3-none-any.whl"


def canonical_name(name: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_from_an_index(distribution: Distribution) -> bool:
    """Return whether a distribution was installed by its name, not from a folder, a file, an address or a repository.

    Conda and Linux distributions record the folder in which they built it, which is not on this machine.
    """
    origin = _origin(distribution)
    url = urlsplit(origin.get("url", ""))
    return not origin or (url.scheme == "file" and not Path(unquote(url.path)).exists())


def _origin(distribution: Distribution) -> Mapping[str, Any]:
    """Return where a distribution was installed from (PEP 610); empty if by its name."""
    found: Mapping[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    return found


def repack(distribution: Distribution) -> Wheel:
    """Return the wheel of an installed distribution.

    Raises:
        CompiledError: It has modules that were compiled for this platform.
        NoModulesError: It is editable, and its modules are not found.
    """
    name, version = canonical_name(distribution.metadata["Name"]), distribution.version
    info = f"{_stem(name, version)}.dist-info"
    metadata = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    tags = re.findall(r"^Tag: *(\S+)", distribution.read_text("WHEEL") or "", re.MULTILINE)
    is_editable = _is_editable(distribution)
    modules = dict(editable_files(distribution)) if is_editable else {}
    if is_editable and not modules:
        raise NoModulesError(f"the modules of {name} {version} are not found", hint=f"reinstall {name}")
    files = {**modules, **dict(_recorded_files(distribution, info, is_editable=is_editable))}
    compiled = sorted(path for path in files if _COMPILED.search(path))
    if compiled or any(not tag.endswith("-any") for tag in tags):
        what = compiled[0] if compiled else tags[0]
        raise CompiledError(
            f"{name} {version} is compiled for this platform ({what}), so it cannot be shipped",
            hint="install it from a package index here, or into the image of the machines",
        )
    contents = {path: file.read_bytes() for path, file in files.items()}
    contents |= {f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": _WHEEL.encode()}
    return Wheel(name=name, version=version, content=_archive(contents, f"{info}/RECORD"), metadata=metadata)


def _stem(name: str, version: str) -> str:
    return f"{name.replace('-', '_')}-{version.replace('-', '_')}"


def _is_editable(distribution: Distribution) -> bool:
    is_recorded = distribution.read_text("RECORD") is not None
    return not is_recorded or bool(_origin(distribution).get("dir_info", {}).get("editable"))


def _recorded_files(distribution: Distribution, info: str, *, is_editable: bool) -> Iterator[tuple[str, Path]]:
    """Yield the files that the installation recorded, by their place in a wheel."""
    commands = {entry.name for entry in distribution.entry_points if "scripts" in entry.group}
    data = f"{info.removesuffix('.dist-info')}.data"
    site = Path(str(distribution.locate_file(""))).resolve()
    for recorded in distribution.files or ():
        path = Path(str(distribution.locate_file(recorded))).resolve()
        if recorded.suffix == ".pyc" or "__pycache__" in recorded.parts or not path.is_file():
            continue
        if recorded.parts[0].endswith(".dist-info"):
            if recorded.name not in _LOCAL and not recorded.name.startswith("uv_"):
                yield "/".join((info, *recorded.parts[1:])), path
        elif is_editable or (path.name in commands and path.parent.name == "bin"):
            continue  # Files that lead Python to the sources, and commands that the installation made.
        elif path.is_relative_to(site):
            yield path.relative_to(site).as_posix(), path
        elif path.parent == Path(sysconfig.get_path("scripts")).resolve():
            yield f"{data}/scripts/{path.name}", path
        elif path.is_relative_to(Path(sys.prefix).resolve()):
            yield f"{data}/data/{path.relative_to(Path(sys.prefix).resolve()).as_posix()}", path


def _archive(contents: Mapping[str, bytes], record: str) -> bytes:
    """Return a ZIP archive with the files and their record. Not compressed: the bundle is, as a whole."""
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path, content in sorted(contents.items()):
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.writerow((path, f"sha256={digest}", len(content)))
            archive.writestr(zipfile.ZipInfo(path, _TIME), content)
        rows.writerow((record, "", ""))
        archive.writestr(zipfile.ZipInfo(record, _TIME), lines.getvalue().encode())
    return out.getvalue()
