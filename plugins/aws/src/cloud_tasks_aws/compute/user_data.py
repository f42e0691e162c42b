"""What an instance runs at its first boot: the job's script, with the ends of its life before it.

EC2 has no longest lifetime for an instance, but ends one that powers itself off: so the instance does that.

Invariants, each with a test:

1. Our own lines, too, change nothing that the script could notice (`boot_script`).
2. What is sent is at most 16 KiB ("Run commands when you launch an EC2 instance with user data input"), or there is a
   clear error; compression keeps a script the same byte for byte.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import timedelta

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import boot_script

__all__ = ["MAX_BYTES", "compose", "packed"]

MAX_BYTES = 16 * 1024


def compose(script: str, *, region: str, max_lifetime: timedelta | None, is_chosen: bool = False) -> str:
    """The script as the instance runs it.

    Args:
        script: The job's whole script.
        region: Where the instance is: for an SDK that is told nothing else.
        max_lifetime: After which the instance ends itself, whatever it does.
        is_chosen: Whether EC2 chose its type and zone: the script is told which they are.
    """
    return boot_script(
        script,
        max_lifetime=max_lifetime,
        variables={"AWS_DEFAULT_REGION": region},
        lines=[_STARTED] if is_chosen else [],
    )


# All in a shell of its own; where it cannot be had, the script takes the instance for the one that was asked for first.
_STARTED = (
    'export CLOUD_TASKS_STARTED="$( ( at="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"; '
    'at="${at%/}/latest"; token="$(curl -sf -m 5 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" '
    '"$at/api/token")"; for what in instance-type placement/availability-zone; do curl -sf -m 5 '
    '-H "X-aws-ec2-metadata-token: $token" "$at/meta-data/$what"; echo; done ) 2>/dev/null | paste -s -d " " - )"'
)


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
