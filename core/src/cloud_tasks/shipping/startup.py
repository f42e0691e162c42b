"""The startup script of an instance for a shipped program: download, verify, make the environment, run.

It is `download.sh`, then the pieces of the bundle, then `boot.sh`.

Invariants, each with a test:

1. A piece is used only if its SHA-256 is that of the bundle; a piece that is there is not downloaded again.
2. What fails is named on the last line of the script's output, with the step, and the instance ends itself.
3. Whatever ends the script in the middle, a second run completes what is missing: nothing half-made is used.
4. The program runs in the folder of the code, with the interpreter of the environment, and its exit code is the
   script's.
5. Secrets are in a folder of their own while the program runs. Neither they nor their key are in an argument or a
   variable of a process.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence

import attrs

from cloud_tasks.escape import shell_word

__all__ = ["PREPARED", "START_FAILED", "DownloadedPiece", "boot_program"]

START_FAILED = "cloud-tasks: start failed: "
"""Begin of the line of a failed start, with the step and the reason."""


PREPARED = "cloud-tasks: everything is installed for "
"""Begin of the line on the console of an instance of which an image is made; then comes the name of the build."""


@attrs.frozen(kw_only=True)
class DownloadedPiece:
    """A piece of a bundle, and how an instance downloads it."""

    name: str
    sha256: str
    """Hexadecimal digest of the file."""
    lines: Sequence[str]
    """Shell that downloads it to the file ``"$1"``; its output is the reason if it fails."""


def boot_program(
    *,
    code: DownloadedPiece | None,
    environment: DownloadedPiece,
    uv: Mapping[str, DownloadedPiece],
    program: Sequence[str],
    python: str = ">=3.11",
    setup: str = "",
    functions: str = "",
    secrets: tuple[DownloadedPiece, str] | None = None,
    prepares: str = "",
) -> str:
    """Return the startup script.

    Args:
        code: None for a program without files; it runs in an empty folder.
        uv: The program ``uv`` by architecture, as ``uname -m`` names it.
        program: Its words, first the interpreter or a console script of the environment.
        python: Versions of Python that the environment is for.
        setup: Lines of shell that run before it, in the folder of the code.
        functions: Definitions of functions that the lines of the pieces call.
        secrets: The piece with sealed secrets, and the line of shell that sets its key, ``ct_key``.
        prepares: Name of the build of an image: the script then says that everything is installed, and starts nothing.
    """
    lines = ["#!/bin/sh", _text("download.sh"), functions]
    lines += ["case $(uname -m) in"]
    for architecture, piece in uv.items():
        lines += [f"{architecture})", f"ct_uv={shell_word(piece.name)}", *_download(piece), ";;"]
    known = ", ".join(uv)
    lines += [f'*) ct_fail "no uv for the architecture $(uname -m), only for {known}" ;;', "esac"]
    for each in (environment, *([code] if code is not None else [])):
        lines += [*_download(each), f"ct_unpack {shell_word(each.name)}"]
    if secrets is not None:
        piece, key = secrets
        lines += [*_download(piece), f"ct_sealed={shell_word(piece.name)}", key]
    folder = "empty" if code is None else code.name.removesuffix(".tar.gz")
    lines += [
        f"ct_environment=$ct_home/{environment.name.removesuffix('.tar.gz')}",
        f"ct_code=$ct_home/{folder}",
        *(['ct_run mkdir -p "$ct_code"'] if code is None else []),
        f"ct_prepares={shell_word(prepares)}",
        f"ct_python={shell_word(python)}",
        f"ct_setup={shell_word(setup)}",
        f"ct_program={shell_word(' '.join(map(shell_word, program)))}",
        _text("boot.sh"),
    ]
    return "\n".join(lines) + "\n"


def _download(piece: DownloadedPiece) -> Sequence[str]:
    return ("ct_get() {", *piece.lines, "}", f"ct_piece {shell_word(piece.name)} {piece.sha256} ct_get")


def _text(name: str) -> str:
    """Return a shell file without comments and blank lines."""
    text = (importlib.resources.files("cloud_tasks.shipping") / name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
