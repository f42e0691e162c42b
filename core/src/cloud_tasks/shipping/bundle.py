"""The bundle of a job: everything that a machine needs besides its operating system, as archives named by content.

========================  ==========================================================================================
``code-….tar.gz``         the files of the configuration's folder
``environment-….tar.gz``  ``wheels/*.whl``: the distributions that the controller runs, and those built from local
                          projects; ``worker.txt`` and ``requirements.txt``: all else, exact versions with digests
``uv-<architecture>-….gz``  the program that makes the environment
========================  ==========================================================================================
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import attrs

from cloud_tasks.shipping.archive import add_file, new_archive
from cloud_tasks.shipping.code_archive import CodeFiles, LeftOut, select_files, write_archive
from cloud_tasks.shipping.installed import installed_wheels
from cloud_tasks.shipping.lock_cache import cached_lock
from cloud_tasks.shipping.piece import Piece, write_piece
from cloud_tasks.shipping.requirements import Requirements
from cloud_tasks.shipping.uv_binary import uv_piece

__all__ = ["Bundle", "build_bundle"]

_KEPT_SECONDS = 14 * 86400
"""How long the cache keeps what is not used."""


@attrs.frozen(kw_only=True)
class Bundle:
    """The pieces of a job."""

    code: Piece | None
    """Archive of the code; None without files."""
    environment: Piece
    """Archive of wheels and requirements."""
    python: str
    """Versions of Python that the environment is for, as ``uv venv --python`` takes them: ``>=3.11``."""
    uv: Mapping[str, Piece]
    """The uv program by architecture: ``x86_64``, ``aarch64``."""
    files: tuple[str, ...]
    """Files of the code, relative to its folder."""
    left_out: tuple[LeftOut, ...]
    """Files that are not shipped, with the reason; without those that git ignores."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All pieces."""
        return (*([self.code] if self.code else []), self.environment, *self.uv.values())


def build_bundle(
    *,
    folder: Path | None,
    ship: Sequence[str] = (),
    requirements: Requirements | None,
    distributions: Sequence[str],
    architectures: Collection[str],
    cache: Path,
    private: Collection[Path] = (),
) -> Bundle:
    """Return the bundle of a job.

    Args:
        folder: Folder of the code; None to ship none.
        ship: Files, folders and patterns to ship, relative to the folder; empty for what git would track.
        requirements: Packages that the program needs.
        distributions: Distributions of cloud-tasks and its plugins that workers need: ``name`` or ``name[extra]``.
        architectures: Of the machines: ``x86_64``, ``aarch64``.
        private: Files that are never shipped.
        cache: Folder for the pieces, and for what is needed to make them again without the network.

    Raises:
        InputError: The files or the requirements cannot be shipped.
        CloudTasksError: A program or an index is not available.
    """
    nothing = CodeFiles(folder=Path(), names=(), size=0, left_out=())
    files = nothing if folder is None else select_files(folder, ship=ship, private=private)
    code = None
    cache.mkdir(parents=True, exist_ok=True)
    if files.names:
        code = write_piece(cache, "code", ".tar.gz", lambda out: write_archive(files, out))
    environment, python = _environment(requirements, distributions, folder or cache, cache)
    _delete_old(cache)
    return Bundle(
        code=code,
        environment=environment,
        python=python,
        uv={architecture: uv_piece(architecture, cache) for architecture in sorted(architectures)},
        files=files.names,
        left_out=files.left_out,
    )


def _environment(
    requirements: Requirements | None, distributions: Sequence[str], folder: Path, cache: Path
) -> tuple[Piece, str]:
    """Return the archive of the environment, and the versions of Python that it is for."""
    wheels, pins = installed_wheels(distributions)
    wanted = requirements or Requirements.from_lines((), folder=folder, where="")
    lock = cached_lock(wanted, wheels=wheels, pins=pins, cache=cache)
    contents = {f"wheels/{wheel.file_name}": wheel.content for wheel in (*(each for each, _ in wheels), *lock.wheels)}
    contents |= {"worker.txt": lock.worker.encode(), "requirements.txt": lock.program.encode()}

    def write(out: BinaryIO) -> None:
        with new_archive(out) as archive:
            for name, content in sorted(contents.items()):
                add_file(archive, name, io.BytesIO(content))

    return write_piece(cache, "environment", ".tar.gz", write), lock.python


def _delete_old(cache: Path) -> None:
    """Delete what no bundle used for two weeks; a staging keeps its pieces as long."""
    for file in cache.iterdir():
        with contextlib.suppress(OSError):
            if file.is_file() and file.stat().st_mtime < time.time() - _KEPT_SECONDS:
                file.unlink()
