"""What a job would ship to its instances, for `plan`."""

from __future__ import annotations

from typing import Any

from cloud_tasks.controller import ShippedProgram
from cloud_tasks.escape import terminal_line
from cloud_tasks.quantities import counted, format_size

__all__ = ["render_shipped", "shipped_dict"]

_SHOWN = 10
"""Number of files shown without ``--detail``."""


def shipped_dict(program: ShippedProgram) -> dict[str, Any]:
    """Return what is shipped as plain data."""
    bundle = program.bundle
    return {
        "staging": program.staging,
        "pieces": [{"name": piece.name, "bytes": piece.size} for piece in bundle.pieces],
        "files": list(bundle.files),
        "left_out": [{"path": each.path, "reason": each.reason} for each in bundle.left_out],
    }


def render_shipped(program: ShippedProgram, *, is_detailed: bool) -> str:
    """Return what is shipped as text: pieces, files, and files that are left out with the reason."""
    bundle = program.bundle
    lines = [f"Shipped by {program.staging}:"]
    lines += [f"  {piece.name}  {format_size(piece.size)}" for piece in bundle.pieces]
    shown = len(bundle.files) if is_detailed else _SHOWN
    lines += [f"    {terminal_line(name)}" for name in bundle.files[:shown]]
    if len(bundle.files) > shown:
        lines.append(f"    and {counted(len(bundle.files) - shown, 'other file')}; --detail shows them")
    lines += [f"  left out: {terminal_line(each.path)} ({each.reason})" for each in bundle.left_out]
    return "\n".join(lines)
