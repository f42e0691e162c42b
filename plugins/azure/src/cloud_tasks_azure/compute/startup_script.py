"""Custom data of a VM: the job's startup script, preceded by the lines that end the VM.

Azure bills a powered-off VM until it is deleted ("States and billing status of Azure Virtual Machines"). A VM with a
managed identity therefore deletes itself and its resources; one without can only power off.

Invariants, each with a test:

1. Added lines do not change the script's environment (`boot_script`).
2. Custom data is at most 65,535 bytes ("Custom data and cloud-init on Azure Virtual Machines"), or `InputError` is
   raised; compression preserves the script byte for byte.
3. Tokens never appear in command arguments, files or output.
"""

from __future__ import annotations

import gzip
import re

from cloud_tasks.errors import InputError
from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin.kit import boot_script
from cloud_tasks_azure.credentials import INSTANCE_IDENTITY, MANAGEMENT_ENDPOINT
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["MAX_BYTES", "compose_script", "custom_data", "encode_script"]

MAX_BYTES = 65_535

_ACCOUNT = re.compile(r"(?:https://)?([a-z0-9]{3,24})(?:\.\w+\.core\.windows\.net/?)?")
"""Account of Azure's public cloud, the only one that adlfs finds by its name."""
_FOLDER = '"${CLOUD_TASKS_BOOT_ROOT:-}/var/lib/cloud-tasks"'
_LEAVE = f"{_FOLDER}/leave.py"
"""Not in the temporary folder, which a restart empties."""

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
        print("cloud-tasks: this instance could not delete itself:", type(error).__name__, getattr(error, "code", ""))
        time.sleep(attempt)
subprocess.run(["shutdown", "-h", "now"])
""".strip()


def custom_data(request: LaunchRequest, settings: AzureSettings, resource: str) -> bytes:
    """Return the custom data of a VM: the script of a request, with the lines that end the VM.

    Args:
        resource: Resource id of the VM.

    Raises:
        InputError: The script is too long even compressed.
    """
    return encode_script(compose_script(request, settings, resource))


def compose_script(request: LaunchRequest, settings: AzureSettings, resource: str) -> str:
    """Return the script to run on the VM."""
    script, identity, account = request.startup_script, settings.managed_identity, settings.storage_account
    lifetime, startup_timeout = request.max_lifetime, request.startup_timeout
    # `az://CONTAINER/NAME` works on the instance. Without the variable, earlier versions of adlfs send no token.
    variables = {"AZURE_STORAGE_ANON": "false"}
    named = _ACCOUNT.fullmatch(account or "")
    if named is not None:
        variables["AZURE_STORAGE_ACCOUNT_NAME"] = named[1]
    if identity is None:
        return boot_script(script, max_lifetime=lifetime, startup_timeout=startup_timeout, variables=variables)
    if identity != "system":
        # A policy of the organization may add another identity, between which Azure does not choose.
        variables[INSTANCE_IDENTITY] = identity
    program = _PROGRAM.format(
        metadata=settings.metadata_url,
        management=(settings.management_endpoint or MANAGEMENT_ENDPOINT).rstrip("/"),
        resource=resource,
        identity="" if identity == "system" else identity,
    )
    return boot_script(
        script,
        max_lifetime=lifetime,
        startup_timeout=startup_timeout,
        end_command=f"python3 {_LEAVE}",
        variables=variables,
        lines=[f"mkdir -p {_FOLDER}", f"cat > {_LEAVE} <<'CLOUD_TASKS_LEAVE'", program, "CLOUD_TASKS_LEAVE"],
    )


def encode_script(script: str) -> bytes:
    """Return the custom data of a script: plain, or compressed if needed; cloud-init reads both.

    Raises:
        InputError: The script is too long even compressed.
    """
    plain = script.encode()
    if len(plain) <= MAX_BYTES:
        return plain
    compressed = gzip.compress(plain, 9, mtime=0)
    if len(compressed) > MAX_BYTES:
        raise InputError(
            f"startup script too long: {len(plain):,} bytes, {len(compressed):,} compressed; limit {MAX_BYTES:,}",
            where="run.startup_script",
            hint="let the script download its larger parts, e.g. from Blob Storage",
        )
    return compressed
