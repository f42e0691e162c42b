"""Shipping of a job to machines that share no files with the controller: code, environment, and the program uv.

`build_bundle` makes the pieces of a job from what is here, and `upload` puts them where the machines fetch them.
"""

from __future__ import annotations

from cloud_tasks.shipping.bundle import Bundle, build_bundle
from cloud_tasks.shipping.checkout import Checkout, find_checkout
from cloud_tasks.shipping.code_archive import CodeFiles, LeftOut, select_files, write_archive
from cloud_tasks.shipping.packed_secrets import pack_secrets
from cloud_tasks.shipping.piece import Piece
from cloud_tasks.shipping.requirements import Requirements, find_requirements
from cloud_tasks.shipping.staging import Progress, delete, upload
from cloud_tasks.shipping.startup import PREPARED, START_FAILED, DownloadedPiece, boot_program

__all__ = [
    "PREPARED",
    "START_FAILED",
    "Bundle",
    "Checkout",
    "CodeFiles",
    "DownloadedPiece",
    "LeftOut",
    "Piece",
    "Progress",
    "Requirements",
    "boot_program",
    "build_bundle",
    "delete",
    "find_checkout",
    "find_requirements",
    "pack_secrets",
    "select_files",
    "upload",
    "write_archive",
]
