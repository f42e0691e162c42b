"""What an instance runs at its first boot: the job's script, and before it how the machine ends when its worker does.

A machine that has powered itself off costs no more than its disk, until the controller, `stop` or `sweep` deletes both
("Stop or restart a Compute Engine instance").

Invariant, with a test: the line before the script changes nothing else that it could notice.
"""

from __future__ import annotations

import re

__all__ = ["boot_script"]

# A worker that has ended leaves a machine that only costs. The minute is for the lines of a script after its worker.
_POWER_OFF = 'export CLOUD_TASKS_POWER_OFF_COMMAND="${CLOUD_TASKS_POWER_OFF_COMMAND:-shutdown -h +1}"'


_SHELL = re.compile(r"#!.*\b(sh|bash|dash|ksh|zsh)\b")


def boot_script(script: str) -> str:
    """The script as the instance runs it; one that names no interpreter gets bash, one of no shell stays as it is."""
    first, newline, rest = script.partition("\n")
    if not first.startswith("#!"):
        first, newline, rest = "#!/bin/bash", "\n", script
    if not _SHELL.match(first):
        return script
    return f"{first}\n{_POWER_OFF}{newline or chr(10)}{rest}"
