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

__all__ = ["fetch_wheel"]


def fetch_wheel(lines: Sequence[str], *, folder: Path, is_local: bool) -> Wheel:
    """Return the wheel of the only requirement in a requirements file.

    Args:
        lines: The requirement, and options of package indexes.
        folder: Folder that relative paths refer to.
        is_local: Whether it is a folder on this machine. Its modules may have changed, which uv would not notice.

    Raises:
        UvError: It cannot be fetched or built.
        CompiledError: It has modules that were compiled for this platform.
    """
    refresh = ["--refresh"] if is_local else []
    with tempfile.TemporaryDirectory(prefix="cloud-tasks-wheel-") as target:
        call_uv(
            "pip", "install", *refresh, "--no-deps", "--target", target, "--python", sys.executable, "--requirements",
            "-", folder=folder, stdin="\n".join([*lines, ""]),
        )  # fmt: skip
        (found,) = distributions(path=[target])
        return repack(found)
