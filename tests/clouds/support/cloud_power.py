"""Power-off programs for guests of fake instances."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

__all__ = ["power_off_programs"]

_PROGRAM = """#!/bin/bash
exec python3 -c 'import sys, urllib.request as u
u.urlopen(u.Request(sys.argv[1], method="POST"), timeout=10)' "{url}"
"""


def power_off_programs(folder: Path, url: str) -> str:
    """Create the programs; return a ``PATH`` that finds them first.

    Args:
        folder: Folder of the programs, created here.
        url: URL whose POST powers the guest off; may contain shell variables of the guest.
    """
    folder.mkdir(parents=True)
    for name in ("poweroff", "halt", "shutdown"):
        program = folder / name
        program.write_text(_PROGRAM.format(url=url))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{folder}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
