"""Console logs of instances that ended: the last lines, and the one that says why. Pure.

The reason of an end is in the output of the startup script and its worker. What follows it is a consequence: the line
with which an instance announces its own end, the shutdown of the system, and errors of processes whose worker is gone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cloud_tasks.escape import terminal_line
from cloud_tasks.plugin import OWN_END
from cloud_tasks.shipping import START_FAILED

__all__ = ["last_lines", "start_failure", "telling_line"]

_SHOWN = 20
_SEARCHED = 50
_LENGTH = 300
_LENGTH_OF_REASON = 600
_GUARD = "cloud-tasks: "
_LOCAL_END = re.compile(r"\[[^]]+\] instance terminated: ")
_CONSEQUENCE = re.compile(r"\b(ChannelClosedError|BrokenPipeError|KeyboardInterrupt)\b")
_ERROR = re.compile(r"(?i)\b(\w*error|\w*exception|fatal|cannot|unable|failed|denied|killed|no such|not found)\b")


def last_lines(console_log: str, *, count: int = _SHOWN) -> Sequence[str]:
    """Return the last lines that are not empty, safe for a terminal."""
    lines = [line for line in (line.rstrip() for line in console_log.splitlines()[-_SEARCHED * 4 :]) if line]
    return [terminal_line(line[:_LENGTH]) for line in lines[-count:]]


def start_failure(console_log: str) -> str:
    """Return why the program of an instance cannot start; empty if its startup script did not say so."""
    found = [line for line in console_log.splitlines()[-_SEARCHED * 4 :] if START_FAILED in line]
    return terminal_line(found[-1].partition(START_FAILED)[2].strip()[:_LENGTH_OF_REASON]) if found else ""


def telling_line(console_log: str) -> str:
    """Return the last line of the script that reads like an error, else its last line, and how the instance ended.

    Empty for an empty log.
    """
    lines = [line.strip() for line in last_lines(console_log, count=_SEARCHED)]
    ends = [index for index, line in enumerate(lines) if _is_own_end(line)]
    output = [line for line in lines[: ends[0]] if not _CONSEQUENCE.search(line)] if ends else lines
    failed = [line[line.index(START_FAILED) :] for line in output if START_FAILED in line]
    causes = failed or [line for line in output if _ERROR.search(line) and not _CONSEQUENCE.search(line)]
    cause = (causes or output or [""])[-1]
    end = lines[ends[0]].partition("] ")[2] or lines[ends[0]] if ends else ""
    return "; ".join(
        text for text in (cause.removeprefix(_GUARD), end.removeprefix(_GUARD).removesuffix(OWN_END)) if text
    )


def _is_own_end(line: str) -> bool:
    return line.endswith(OWN_END) or _LOCAL_END.match(line) is not None
