"""What an instance runs at its first boot: the job's script, with the ends of its life before it.

EC2 has no longest lifetime for an instance, but ends one that powers itself off: so the instance does that.

Invariants, each with a test:

1. The lines that are put before the script change nothing that it could notice: no child for ``wait``, no ``$!``, no
   output, no option of the shell, no exit code.
2. What is sent is at most 16 KiB ("Run commands when you launch an EC2 instance with user data input"), or there is a
   clear error; compression keeps a script the same byte for byte.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from datetime import timedelta

from cloud_tasks.errors import InputError

__all__ = ["MAX_BYTES", "compose", "packed"]

MAX_BYTES = 16 * 1024


def compose(script: str, *, region: str, max_lifetime: timedelta | None, is_chosen: bool = False) -> str:
    """The script as the instance runs it.

    Args:
        script: The job's whole script, its ``#!`` line first.
        region: Where the instance is: for an SDK that is told nothing else.
        max_lifetime: After which the instance ends itself, whatever it does.
        is_chosen: Whether EC2 chose its type and zone: the script is told which they are.
    """
    first, newline, rest = script.partition("\n")
    if not first.startswith("#!"):
        first, newline, rest = "#!/bin/bash", "\n", script
    lines = [first, _POWER_OFF, f'export AWS_DEFAULT_REGION="${{AWS_DEFAULT_REGION:-{region}}}"']
    if max_lifetime is not None:
        lines.append(_TIMER.format(seconds=max(1, math.ceil(max_lifetime.total_seconds()))))
    if is_chosen:
        lines.append(_STARTED)
    return "\n".join(lines) + (newline or "\n") + rest


# A worker that has ended leaves a machine that only costs. The minute is for the lines of a script after its worker.
_POWER_OFF = 'export CLOUD_TASKS_POWER_OFF_COMMAND="${CLOUD_TASKS_POWER_OFF_COMMAND:-shutdown -h +1}"'

# All in a shell of its own; where it cannot be had, the script takes the instance for the one that was asked for first.
_STARTED = (
    'export CLOUD_TASKS_STARTED="$( ( at="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"; '
    'at="${at%/}/latest"; token="$(curl -sf -m 5 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" '
    '"$at/api/token")"; for what in instance-type placement/availability-zone; do curl -sf -m 5 '
    '-H "X-aws-ec2-metadata-token: $token" "$at/meta-data/$what"; echo; done ) 2>/dev/null | paste -s -d " " - )"'
)

# The inner process is no child of the script's shell, so that neither `wait` nor `$!` nor `jobs` shows it.
_TIMER = "( ( sleep {seconds}; shutdown -h now ) </dev/null >/dev/null 2>&1 & )"


def packed(script: str, *, elsewhere: Callable[[str], bytes] | None = None) -> bytes:
    """User data for a script: as it is, or compressed where that is needed; cloud-init reads both.

    Args:
        elsewhere: Puts a script that is too long even so to another place; returns user data that fetches it.

    Raises:
        InputError: It is too long, and there is no other place.
    """
    plain = script.encode()
    if len(plain) <= MAX_BYTES:
        return plain
    compressed = gzip.compress(plain, 9, mtime=0)
    if len(compressed) <= MAX_BYTES:
        return compressed
    if elsewhere is None:
        raise InputError(
            f"the startup script has {len(plain)} bytes, {len(compressed)} compressed; EC2 takes {MAX_BYTES}",
            where="run.startup_script",
            hint="set aws.script_location to a place in S3, or let the script fetch its larger parts",
        )
    return elsewhere(script)
