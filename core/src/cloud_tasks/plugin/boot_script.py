"""What a machine runs at its first boot: the job's script, with the ends of the machine's life before it.

For `Compute` backends. A machine whose worker has ended only costs; and one that nobody can reach any more has to end
by itself. Where the provider does neither, the first lines of its script do.

Invariants, each with a test:

1. Of the script itself nothing is changed but a carriage return at the end of its ``#!`` line, with which no machine
   would find the interpreter.
2. The lines that are put before the script change nothing that it could notice: no child for ``wait``, no ``$!``, no
   output, no option of the shell, no exit code. They are for every shell of POSIX.
3. The ends of the machine's life come first, so that no other line can fail or hang before them.
4. What the machine's environment has already, and what the script says itself, counts more than our variables.
5. A command that is to end the machine and fails is followed by a shutdown.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta

__all__ = ["boot_script", "insert_lines"]

_SHUTDOWN = "shutdown -h now"

_OTHER_LANGUAGES = re.compile(
    r"(.*/)?(awk|csh|fish|gawk|julia|lua|node|perl|php|pwsh|pypy|python|Rscript|ruby|tclsh|tcsh)[\d.]*"
)


def boot_script(
    script: str,
    *,
    max_lifetime: timedelta | None = None,
    end_command: str | None = None,
    variables: Mapping[str, str] = {},
    lines: Sequence[str] = (),
) -> str:
    """The script as a machine runs it, as root: it ends when its worker does, and after its longest lifetime.

    A worker that ends runs what ``CLOUD_TASKS_POWER_OFF_COMMAND`` says. That is set to end the machine a minute later,
    for there may be lines of the script after its worker. A script without a ``#!`` line gets bash. One that is known
    to be in another language (Python, Perl, csh, fish) stays as it is, and its machine is ended by others alone.

    Args:
        script: The job's whole script: `LaunchRequest.startup_script`.
        max_lifetime: After which the machine ends itself, whatever the script does; rounded up to whole seconds. None:
            it does not, for instance since the provider sees to it.
        end_command: A shell command that ends the machine at once, for where a machine that is shut down goes on
            costing. None: ``shutdown``.
        variables: Exported where the machine has not set them to something else; any text is a value.
        lines: Shell code that the provider needs besides, such as a here-document; it runs last.
    """
    if _is_of_another_language(script):
        return script
    end, end_soon = _SHUTDOWN, "shutdown -h +1"
    if end_command is not None:
        end = f"{{ {end_command}; }} || {_SHUTDOWN}"
        end_soon = f"( ( sleep 60; {end} ) & )"
    before = [_default("CLOUD_TASKS_POWER_OFF_COMMAND", end_soon)]
    if max_lifetime is not None:
        before.append(_timer(max(1, math.ceil(max_lifetime.total_seconds())), end))
    before += [_default(name, value) for name, value in variables.items()]
    return insert_lines(script, [*before, *lines])


def insert_lines(script: str, lines: Sequence[str]) -> str:
    """Put lines after the ``#!`` line of a script, or after a ``#!/bin/bash`` where it has none."""
    first, _, rest = script.partition("\n")
    if not first.startswith("#!"):
        first, rest = "#!/bin/bash", script
    return "\n".join([first.rstrip("\r"), *lines, rest])


def _is_of_another_language(script: str) -> bool:
    """Whether the ``#!`` line names an interpreter that is known to read no shell code."""
    first = script.partition("\n")[0]
    return first.startswith("#!") and any(_OTHER_LANGUAGES.fullmatch(word) for word in first[2:].split())


def _default(name: str, value: str) -> str:
    return f'[ -n "${{{name}:-}}" ] || {name}={shlex.quote(value)}; export {name}'


def _timer(seconds: int, command: str) -> str:
    # The inner process is no child of the script's shell, so that neither `wait` nor `$!` nor `jobs` shows it.
    return f"( ( sleep {seconds}; {command} ) </dev/null >/dev/null 2>&1 & )"
