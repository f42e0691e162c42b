"""Checks of a launch request that need no call to Google Cloud.

Invariant, with a test: a startup script larger than 256 KiB, the limit of a metadata value ("About VM metadata"), is
refused with an `InputError`.
"""

from __future__ import annotations

from cloud_tasks.errors import InputError
from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin.kit import boot_script
from cloud_tasks_gcp.disks import disk_problem
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["MAX_BYTES", "check_launch", "startup_script"]

MAX_BYTES = 256 * 1024


def check_launch(settings: GcpSettings, request: LaunchRequest) -> None:
    """Raise `InputError` when the boot disk is invalid or the startup script too large."""
    problem = disk_problem(request.offer.boot_disk)
    if problem:
        raise InputError(problem, where="run.boot_disk_types")
    startup_script(request)


def startup_script(request: LaunchRequest) -> str:
    """Return the script as the instance runs it. Raise `InputError` when it is too large.

    Compute Engine enforces the maximum lifetime. An instance that powered itself off costs only its disk until the
    controller, `stop` or `cleanup` deletes both ("Stop or restart a Compute Engine instance").
    """
    script = boot_script(request.startup_script, startup_timeout=request.startup_timeout)
    size = len(script.encode())
    if size > MAX_BYTES:
        raise InputError(
            f"the startup script has {size:,} bytes, more than Google Cloud's limit of {MAX_BYTES:,}",
            where="run.startup_script",
            hint="download large parts at start, for example from Cloud Storage",
        )
    return script
