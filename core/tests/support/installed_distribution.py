"""Distributions for tests: installed into a folder, or as a wheel, without any tool."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

__all__ = ["install", "write_wheel"]


def install(
    site: Path,
    name: str,
    *,
    version: str = "1.0",
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    entry_points: str = "",
    origin: Mapping[str, Any] | None = None,
    tag: str = "py3-none-any",
    info: Mapping[str, str] | None = None,
) -> Distribution:
    """Install a distribution into a folder as pip does, and return it.

    Args:
        files: Contents by path, relative to the folder.
        origin: Content of ``direct_url.json``; None for an index.
        info: More files of ``.dist-info``.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    contents = {**(files or {})}
    contents |= {f"{stem}.dist-info/{path}": text for path, text in (info or {}).items()}
    contents |= _information(stem, name, version, requires, entry_points, tag)
    contents[f"{stem}.dist-info/INSTALLER"] = "pip\n"
    if origin is not None:
        contents[f"{stem}.dist-info/direct_url.json"] = json.dumps(origin)
    contents[f"{stem}.dist-info/RECORD"] = _record(contents, stem)
    for path, text in contents.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    (found,) = (each for each in distributions(path=[str(site)]) if each.metadata["Name"] == name)
    return found


def write_wheel(
    folder: Path,
    name: str,
    *,
    version: str = "1.0",
    files: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel into a folder, and return its path."""
    stem = f"{name.replace('-', '_')}-{version}"
    contents = {**(files or {f"{name.replace('-', '_')}.py": "x = 1\n"})}
    contents |= _information(stem, name, version, requires, "", tag)
    contents[f"{stem}.dist-info/RECORD"] = _record(contents, stem)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return folder / f"{stem}-{tag}.whl"


def _information(
    stem: str, name: str, version: str, requires: Sequence[str], entry_points: str, tag: str
) -> dict[str, str]:
    extras = dict.fromkeys(line.split('"')[1] for line in requires if "extra ==" in line)
    fields = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    fields += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {line}" for line in requires]
    contents = {
        "METADATA": "\n".join([*fields, ""]),
        "WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if entry_points:
        contents["entry_points.txt"] = entry_points
    return {f"{stem}.dist-info/{path}": text for path, text in contents.items()}


def _record(contents: Mapping[str, str], stem: str) -> str:
    lines = []
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
    return "\n".join([*lines, f"{stem}.dist-info/RECORD,,", ""])
