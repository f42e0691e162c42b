"""User data of an instance: the job's startup script, preceded by the lines that end the instance.

EC2 has no maximum lifetime of an instance, but terminates one that powers itself off: the script does so.

Invariants, each with a test:

1. Added lines do not change the script's environment (`boot_script`).
2. User data is at most 16 KiB ("Run commands when you launch an EC2 instance with user data input"), or `InputError` is
   raised; compression preserves the script byte for byte.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import timedelta

from cloud_tasks.errors import InputError
from cloud_tasks.plugin.kit import boot_script

__all__ = ["MAX_BYTES", "compose_script", "encode_script"]

MAX_BYTES = 16 * 1024
_METADATA_RETRIES = {"AWS_METADATA_SERVICE_NUM_ATTEMPTS": "5", "AWS_METADATA_SERVICE_TIMEOUT": "5"}
"""SDKs ask the metadata service for the credentials of the role once, for a second, unless they are set."""


def compose_script(
    script: str,
    *,
    region: str,
    max_lifetime: timedelta | None,
    startup_timeout: timedelta | None = None,
    is_chosen: bool = False,
) -> str:
    """Return the script to run on the instance.

    Args:
        script: The job's startup script.
        region: Region of the instance, exported for SDKs.
        max_lifetime: Time after which the instance terminates itself.
        startup_timeout: Time limit for the start of a worker, after which it does so, too.
        is_chosen: Whether EC2 selected type and zone, which are then exported to the script.
    """
    return boot_script(
        script,
        max_lifetime=max_lifetime,
        startup_timeout=startup_timeout,
        variables={"AWS_DEFAULT_REGION": region, **_METADATA_RETRIES},
        lines=[_STARTED] if is_chosen else [],
    )


# Runs in a subshell; without a response, the worker assumes the type and zone of the request's own offer.
_STARTED = (
    'export CLOUD_TASKS_STARTED="$( ( at="${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}"; '
    'at="${at%/}/latest"; token="$(curl -sf -m 5 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" '
    '"$at/api/token")"; for what in instance-type placement/availability-zone; do curl -sf -m 5 '
    '-H "X-aws-ec2-metadata-token: $token" "$at/meta-data/$what"; echo; done ) 2>/dev/null | paste -s -d " " - )"'
)


def encode_script(script: str, *, store: Callable[[str], bytes] | None = None) -> bytes:
    """Return the user data of a script: plain, or compressed if needed; cloud-init reads both.

    Args:
        store: Stores a script that is too long even compressed and returns user data that downloads it.

    Raises:
        InputError: The script is too long and ``store`` is not given.
    """
    plain = script.encode()
    if len(plain) <= MAX_BYTES:
        return plain
    compressed = gzip.compress(plain, 9, mtime=0)
    if len(compressed) <= MAX_BYTES:
        return compressed
    if store is None:
        raise InputError(
            f"startup script too long: {len(plain):,} bytes, {len(compressed):,} compressed; limit {MAX_BYTES:,}",
            where="run.startup_script",
            hint="set aws.script_location to an S3 location, or let the script download its larger parts",
        )
    return store(script)
