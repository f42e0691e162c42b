"""Startup script of an instance: the job's script after lines that terminate the instance.

For `Compute` backends whose provider does not terminate an instance when its worker exits, or after its maximum
lifetime: such an instance would only cost.

Invariants, each with a test:

1. The script is unchanged, except for a carriage return at the end of its ``#!`` line, which hides the interpreter.
2. The inserted lines have no effect on the script: no child for ``wait``, no ``$!``, no output, no shell option, no
   exit code. They are for every POSIX shell.
3. The lines that terminate the instance come first, so no other line can fail or hang before them.
4. Variables of the instance's environment, and those that the script sets, take precedence over inserted ones.
5. A termination command that fails is followed by a shutdown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from cloud_tasks.escape import shell_word

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
    """Return the script that an instance runs as root; the instance terminates after its worker or maximum lifetime.

    A worker runs ``CLOUD_TASKS_POWER_OFF_COMMAND`` on exit. It is set to terminate the instance a minute later, since
    the script may continue after its worker. A script without a ``#!`` line gets bash. A script known to be in another
    language (Python, Perl, csh, fish) is returned unchanged, and only the controller terminates its instance.

    Args:
        script: The whole script of the job: `LaunchRequest.startup_script`.
        max_lifetime: Time after which the instance terminates itself, rounded up to whole seconds; None for never, for
            example if the provider terminates it.
        end_command: Shell command that terminates the instance at once, for providers that bill an instance after its
            shutdown. None: ``shutdown``.
        variables: Values exported unless the instance has set them; any text.
        lines: Further shell code of the provider, such as a here-document; runs last.
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
    """Return a script with lines inserted after its ``#!`` line, or after ``#!/bin/bash`` if it has none."""
    first, _, rest = script.partition("\n")
    if not first.startswith("#!"):
        first, rest = "#!/bin/bash", script
    return "\n".join([first.rstrip("\r"), *lines, rest])


def _is_of_another_language(script: str) -> bool:
    """Return whether the ``#!`` line names an interpreter that is known not to be a shell."""
    first = script.partition("\n")[0]
    return first.startswith("#!") and any(_OTHER_LANGUAGES.fullmatch(word) for word in first[2:].split())


def _default(name: str, value: str) -> str:
    return f'[ -n "${{{name}:-}}" ] || {name}={shell_word(value)}; export {name}'


def _timer(seconds: int, command: str) -> str:
    # The inner process is not a child of the script's shell, so `wait`, `$!` and `jobs` do not show it.
    return f"( ( sleep {seconds}; {command} ) </dev/null >/dev/null 2>&1 & )"
