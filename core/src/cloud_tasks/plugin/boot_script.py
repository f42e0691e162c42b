"""Startup script of an instance: the job's script after lines that terminate the instance.

A provider does not terminate an instance whose script failed, whose worker has exited, or that was restarted, and not
every provider terminates one after its maximum lifetime: such an instance would only cost.

Invariants, each with a test:

1. The script is unchanged, except for a carriage return at the end of its ``#!`` line, which hides the interpreter. A
   script in another language than a shell's runs from a file, with its interpreter and the same process id.
2. The inserted lines have no effect on the script: no child for ``wait``, no ``$!``, no output, no trap, no shell
   option, no exit code. They are for every POSIX shell.
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
from cloud_tasks.plugin.boot_guard import BOOT_GUARD

__all__ = ["boot_script", "insert_lines"]

_SHUTDOWN = "shutdown -h now || poweroff"

_PROCESS_NAME = "CLOUD_TASKS_PROCESS_NAME=ctw-$$; export CLOUD_TASKS_PROCESS_NAME"
"""The name that a worker gives its process, also in a container: the boot guard looks for it."""

_UPTIME = 'CLOUD_TASKS_BOOT_UPTIME="$( cut -d " " -f 1 /proc/uptime 2>/dev/null )" || :; export CLOUD_TASKS_BOOT_UPTIME'
"""Uptime of the machine in seconds at the start of the script, from which a worker measures its lifetime."""

_OTHER_LANGUAGES = re.compile(
    r"(.*/)?(awk|csh|fish|gawk|julia|lua|node|perl|php|pwsh|pypy|python|Rscript|ruby|tclsh|tcsh)[\d.]*"
)


def boot_script(
    script: str,
    *,
    max_lifetime: timedelta | None = None,
    startup_timeout: timedelta | None = None,
    end_command: str | None = None,
    variables: Mapping[str, str] = {},
    lines: Sequence[str] = (),
) -> str:
    """Return the script that an instance runs as root; the instance ends with its worker, script or maximum lifetime.

    A worker runs ``CLOUD_TASKS_POWER_OFF_COMMAND`` on exit. It is set to terminate the instance a minute later, since
    the script may continue after its worker. Without a worker, the boot guard (`cloud_tasks.plugin.boot_guard`)
    terminates the instance: some minutes after the script has ended, or after the time limit for the start of a
    worker, and at once if the machine was restarted. A script without a ``#!`` line gets bash.

    Args:
        script: The whole script of the job: `LaunchRequest.startup_script`.
        max_lifetime: Time after which the instance terminates itself, rounded up to whole seconds; None for never, for
            example if the provider terminates it.
        startup_timeout: Time limit for the start of a worker: `LaunchRequest.startup_timeout`; None for no limit.
        end_command: Shell command that terminates the instance at once, for providers that bill an instance after its
            shutdown. None: ``shutdown``.
        variables: Values exported unless the instance has set them; any text.
        lines: Further shell code of the provider, such as a here-document; runs last.
    """
    end, end_soon = _SHUTDOWN, "shutdown -h +1"
    if end_command is not None:
        end = f"{{ {end_command}; }} || {_SHUTDOWN}"
        end_soon = f"( ( sleep 60; {end} ) & )"
    before = [
        _guard(_seconds(max_lifetime), _seconds(startup_timeout), end),
        _PROCESS_NAME,
        _UPTIME,
        _default("CLOUD_TASKS_POWER_OFF_COMMAND", end_soon),
        *(_default(name, value) for name, value in variables.items()),
    ]
    return insert_lines(script, [*before, *lines])


def insert_lines(script: str, lines: Sequence[str]) -> str:
    """Return a script with lines of a shell inserted after its ``#!`` line, or after ``#!/bin/bash`` if it has none.

    A script in another language is written to a file by such lines, and executed after them.
    """
    first, _, rest = script.partition("\n")
    first = first.rstrip("\r")
    if not first.startswith("#!"):
        first, rest = "#!/bin/bash", script
    elif any(_OTHER_LANGUAGES.fullmatch(word) for word in first[2:].split()):
        first, rest = "#!/bin/sh", _in_file(first, rest)
    return "\n".join([first, *lines, rest])


def _in_file(first: str, rest: str) -> str:
    """Return shell code that executes a script with the interpreter of its ``#!`` line, as the system does."""
    interpreter, _, argument = first[2:].strip().partition(" ")
    command = " ".join(shell_word(word) for word in (interpreter, argument.strip()) if word)
    file, text = '"$CLOUD_TASKS_SCRIPT_FILE"', shell_word("\n".join((first, rest)))
    lines = (
        'CLOUD_TASKS_SCRIPT_FILE="$( mktemp )" || exit',
        f"printf %s {text} > {file} || exit",
        f'exec {command} {file} "$@"\n',
    )
    return "\n".join(lines)


def _seconds(span: timedelta | None) -> str:
    return "" if span is None else str(max(1, math.ceil(span.total_seconds())))


def _default(name: str, value: str) -> str:
    return f'[ -n "${{{name}:-}}" ] || {name}={shell_word(value)}; export {name}'


def _guard(lifetime: str, timeout: str, end: str) -> str:
    # The inner process is not a child of the script's shell, so `wait`, `$!` and `jobs` do not show it. A shell of its
    # own has none of the script's options.
    arguments = f'"$$" "{lifetime}" "{timeout}" {shell_word(end)} {shell_word(BOOT_GUARD)}'
    return f"( ( exec /bin/sh -c 'eval \"$5\"' cloud-tasks {arguments} ) </dev/null >/dev/null 2>&1 & )"
