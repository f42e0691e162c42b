"""A file system of 64 KiB, for tests of full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from missing import missing

__all__ = ["fill", "small_disk"]


@contextmanager
def small_disk(path: Path, options: str = "size=64k") -> Iterator[Path]:
    """Mount a new file system at a path; skip the test where that is not allowed, fail it on CI.

    Args:
        options: Mount options of tmpfs.
    """
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        missing("only root mounts a file system, and not in every container", how="run the tests as root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> Path:
    """Fill the file system of a folder; return the file that does it."""
    file = path / "filler"
    with file.open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(b"x" * 4096)
            except OSError:
                return file
