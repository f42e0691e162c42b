"""End of a console log, as `Compute.console_log` returns it."""

from __future__ import annotations

import os
from pathlib import Path

from cloud_tasks.errors import ProviderError

__all__ = ["CONSOLE_BYTES", "tail_of_file"]

CONSOLE_BYTES = 64 * 1024
"""Maximum size of `Compute.console_log`."""


def tail_of_file(file: Path) -> str:
    """Return the end of a log file; empty without the file. Raises `ProviderError` if it cannot be read."""
    try:
        with file.open("rb") as console:
            size = console.seek(0, os.SEEK_END)
            console.seek(max(0, size - CONSOLE_BYTES))
            return console.read(CONSOLE_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ProviderError(f"cannot read {file}: {error.strerror}") from error
