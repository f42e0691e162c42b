"""An installation as a user has it: wheels of this checkout in an environment of their own, the rest from the index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from uv import find_uv_bin

__all__ = ["installed_program"]

_ROOT = Path(__file__).parents[3]


def installed_program(folder: Path, requirement: str, *, projects: Sequence[str]) -> Path:
    """Install a requirement into a new environment; return its program ``cloud-tasks``.

    Args:
        folder: Folder for the environment, created.
        projects: Folders of the checkout whose distributions it needs.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"UV_SYSTEM_CERTS": "1"}
    wheels, target = folder / "wheels", folder / "environment"

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr

    def build(project: str) -> None:
        copy = folder / "sources" / project
        shutil.copytree(_ROOT / project, copy, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(copy))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(build, projects))
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(settings["tool"]["uv"]["constraint-dependencies"]))
    run(find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(target))
    options = ("--python", str(target), "--find-links", str(wheels), "--constraint", str(constraints))
    run(find_uv_bin(), "pip", "install", "--quiet", *options, requirement)
    return target / "bin" / "cloud-tasks"
