"""Console logs of instances that ended: the last lines, and the one that says why. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cloud_tasks.escape import terminal_line

__all__ = ["last_lines", "telling_line"]

_SHOWN = 20
_SEARCHED = 50
_LENGTH = 300
_ERROR = re.compile(r"(?i)\b(\w*error|\w*exception|fatal|cannot|unable|failed|denied|killed|no such|not found)\b")


def last_lines(console_log: str, *, count: int = _SHOWN) -> Sequence[str]:
    """Return the last lines that are not empty, safe for a terminal."""
    lines = [line for line in (line.rstrip() for line in console_log.splitlines()[-_SEARCHED * 4 :]) if line]
    return [terminal_line(line[:_LENGTH]) for line in lines[-count:]]


def telling_line(console_log: str) -> str:
    """Return the last line that reads like an error, else the last line; empty for an empty log."""
    lines = last_lines(console_log, count=_SEARCHED)
    return next((line for line in reversed(lines) if _ERROR.search(line)), lines[-1] if lines else "").strip()
