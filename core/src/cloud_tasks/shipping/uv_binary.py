"""The uv program for an architecture, packed by gzip: the one of this environment, or from the package index."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.shipping.archive import compressor
from cloud_tasks.shipping.piece import Piece, replace_file, write_piece
from cloud_tasks.shipping.uv_call import UvError, call_uv, uv_program

__all__ = ["ARCHITECTURES", "uv_piece"]

ARCHITECTURES = ("x86_64", "aarch64")


def uv_piece(architecture: str, cache: Path) -> Piece:
    """Return the uv program for an architecture of Linux, in the version of this environment.

    Raises:
        InputError: The architecture is not supported, or uv is not installed.
        CloudTasksError: It cannot be fetched.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"no uv program for the architecture {architecture!r}", hint=f"use {' or '.join(ARCHITECTURES)}"
        )
    note = cache / f"uv-{version('uv')}-{architecture}.json"
    if (known := _known(note, cache)) is not None:
        return known
    if sys.platform == "linux" and platform.machine() == architecture:
        piece = _packed(Path(uv_program()), architecture, cache)
    else:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".uv-") as scratch:
            piece = _packed(_fetch(architecture, Path(scratch)), architecture, cache)
    text = json.dumps({"name": piece.name, "sha256": piece.sha256, "size": piece.size})
    replace_file(note, text.encode())
    return piece


def _known(note: Path, cache: Path) -> Piece | None:
    try:
        found = json.loads(note.read_text())
        piece = Piece(path=cache / found["name"], **found)
        os.utime(note)
        os.utime(piece.path)
        return piece if piece.path.stat().st_size == piece.size else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _packed(program: Path, architecture: str, cache: Path) -> Piece:
    def write(out: BinaryIO) -> None:
        with program.open("rb") as content, compressor(out) as packed:
            shutil.copyfileobj(content, packed)

    return write_piece(cache, f"uv-{architecture}", ".gz", write)


def _fetch(architecture: str, folder: Path) -> Path:
    wanted = f"uv=={version('uv')}"
    system = f"{architecture}-manylinux_2_28"
    try:
        call_uv(
            "pip", "install", "--target", str(folder), "--python", sys.executable,
            "--python-platform", system, "--only-binary", ":all:", "--no-deps", wanted, folder=folder,
        )  # fmt: skip
    except UvError as error:
        raise CloudTasksError(f"cannot fetch {wanted} for {architecture}: {error.reason()}") from error
    return folder / "bin" / "uv"
