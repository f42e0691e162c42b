"""A local project that needs nothing from a package index to be built: its build backend is one of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["write_project"]

_BACKEND = """
import pathlib, zipfile

NAME, VERSION, REQUIRES, SUFFIX = {values!r}
STEM = NAME.replace("-", "_") + "-" + VERSION

def build_wheel(folder, config_settings=None, metadata_directory=None):
    lines = ["Metadata-Version: 2.1", "Name: " + NAME, "Version: " + VERSION]
    lines += ["Requires-Dist: " + each for each in REQUIRES]
    info = STEM + ".dist-info/"
    with zipfile.ZipFile(pathlib.Path(folder, STEM + "-py3-none-any.whl"), "w") as archive:
        for path in sorted(pathlib.Path("module").iterdir()):
            archive.writestr(NAME.replace("-", "_") + "/" + path.name, path.read_bytes())
        if SUFFIX:
            archive.writestr(NAME.replace("-", "_") + "/fast" + SUFFIX, b"")
        archive.writestr(info + "METADATA", "\\n".join(lines) + "\\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "RECORD", "")
    return STEM + "-py3-none-any.whl"
"""


def write_project(
    folder: Path, name: str, *, version: str = "1.0", requires: Sequence[str] = (), suffix: str = ""
) -> Path:
    """Write a project with one module; ``suffix`` (``.so``) adds a compiled one."""
    (folder / "module").mkdir(parents=True, exist_ok=True)
    (folder / "module" / "__init__.py").write_text("x = 1\n")
    (folder / "backend.py").write_text(_BACKEND.format(values=(name, version, [*requires], suffix)))
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = {[*requires]!r}\n'
    )
    return folder
