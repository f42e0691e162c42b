"""What a machine runs at its first boot: the job's script, with the ends of its life before it.

Azure bills a machine that powered itself off until it is deleted ("States and billing status of Azure Virtual
Machines"). So one that works as a managed identity deletes itself, with all its parts; one that does not can only power
off.

Invariants, each with a test:

1. Our own lines, too, change nothing that the script could notice (`boot_script`).
2. What is sent is at most 65,535 bytes ("Custom data and cloud-init on Azure Virtual Machines"), or there is a clear
   error; compression keeps a script the same byte for byte.
3. No token is in an argument of a command, in a file or in the output.
"""

from __future__ import annotations

import gzip
from datetime import timedelta

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import boot_script

__all__ = ["MAX_BYTES", "compose", "packed"]

MAX_BYTES = 65_535

_LEAVE = "/tmp/cloud-tasks-leave.py"

_PROGRAM = r"""
import json, os, subprocess, time, urllib.parse, urllib.request
METADATA, MANAGEMENT, RESOURCE, CLIENT = {metadata!r}, {management!r}, {resource!r}, {identity!r}
METADATA = os.environ.get("CLOUD_TASKS_AZURE_METADATA_URL", METADATA)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
for attempt in range(5):
    try:
        query = {{"api-version": "2018-02-01", "resource": MANAGEMENT + "/"}}
        if CLIENT:
            query["msi_res_id"] = CLIENT
        url = METADATA + "/metadata/identity/oauth2/token?" + urllib.parse.urlencode(query)
        with direct.open(urllib.request.Request(url, headers={{"Metadata": "true"}}), timeout=10) as answer:
            token = json.load(answer)["access_token"]
        url = MANAGEMENT + RESOURCE + "?api-version=2024-07-01&forceDeletion=true"
        headers = {{"Authorization": "Bearer " + token}}
        urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="DELETE"), timeout=30).close()
        break
    except Exception as error:
        print("cloud-tasks: this machine could not delete itself:", type(error).__name__, getattr(error, "code", ""))
        time.sleep(attempt)
subprocess.run(["shutdown", "-h", "now"])
""".strip()


def compose(
    script: str,
    *,
    max_lifetime: timedelta | None,
    identity: str | None,
    resource: str,
    management: str,
    metadata: str,
) -> str:
    """The script as the machine runs it.

    Args:
        script: The job's whole script.
        max_lifetime: After which the machine ends itself, whatever it does.
        identity: Of the settings: what the machine works as; None: it can only power off.
        resource: The machine's own resource id.
    """
    if identity is None:
        return boot_script(script, max_lifetime=max_lifetime)
    program = _PROGRAM.format(
        metadata=metadata,
        management=management,
        resource=resource,
        identity="" if identity == "system" else identity,
    )
    return boot_script(
        script,
        max_lifetime=max_lifetime,
        end_command=f"python3 {_LEAVE}",
        lines=[f"cat > {_LEAVE} <<'CLOUD_TASKS_LEAVE'", program, "CLOUD_TASKS_LEAVE"],
    )


def packed(script: str) -> bytes:
    """Custom data for a script: as it is, or compressed where that is needed; cloud-init reads both.

    Raises:
        InputError: It is too long even so.
    """
    plain = script.encode()
    if len(plain) <= MAX_BYTES:
        return plain
    compressed = gzip.compress(plain, 9, mtime=0)
    if len(compressed) > MAX_BYTES:
        raise InputError(
            f"the startup script has {len(plain)} bytes, {len(compressed)} compressed; Azure takes {MAX_BYTES}",
            where="run.startup_script",
            hint="let it fetch its larger parts, e.g. from Blob storage",
        )
    return compressed
