"""Wheels of what is not installed here: uv fetches or builds it, and the result is repacked.

Repacked wheels have the same bytes each time, and nothing of the address or folder that they are from.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from cloud_tasks.shipping.uv_call import call_uv
from cloud_tasks.shipping.wheels import Wheel, repack

__all__ = ["build_wheel", "fetch_wheel"]


def fetch_wheel(lines: Sequence[str], *, folder: Path) -> Wheel:
    """Return the wheel of the only requirement in a requirements file.

    Args:
        lines: The requirement, and options of package indexes.
        folder: Folder that relative paths refer to.

    Raises:
        UvError: It cannot be fetched or built.
        CompiledError: It has modules that were compiled for this platform.
    """
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-wheel-") as target:
        call_uv(
            "pip", "install", "--no-deps", "--target", target, "--python", sys.executable, "--requirements", "-",
            folder=folder, stdin="\n".join([*lines, ""]),
        )  # fmt: skip
        (found,) = distributions(path=[target])
        return repack(found)


def build_wheel(project: Path) -> Wheel:
    """Return the wheel of a local project. It is built each time: uv would keep it although its modules change.

    Raises:
        UvError: It cannot be built.
        CompiledError: It has modules that were compiled for this platform.
    """
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-build-") as target:
        call_uv("build", "--wheel", "--out-dir", target, "--python", sys.executable, str(project), folder=project)
        (wheel,) = Path(target).glob("*.whl")
        return fetch_wheel([wheel.as_uri()], folder=project)
