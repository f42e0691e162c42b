"""Checks of a launch request that need no call to Google Cloud.

Invariant, with a test: a startup script has at most 256 KiB, the limit of a metadata value ("About VM metadata"), or
there is a clear error.
"""

from __future__ import annotations

from cloud_tasks.errors import InputError
from cloud_tasks.model import LaunchRequest
from cloud_tasks.plugin import boot_script
from cloud_tasks_gcp.compute.disks import disk_problem
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["MAX_BYTES", "check_launch", "startup_script"]

MAX_BYTES = 256 * 1024


def check_launch(settings: GcpSettings, request: LaunchRequest) -> None:
    """Raise `InputError` where the boot disk cannot be made or the startup script is too long."""
    problem = disk_problem(request.offer.boot_disk)
    if problem:
        raise InputError(problem, where="run.boot_disk_types")
    startup_script(request)


def startup_script(request: LaunchRequest) -> str:
    """Return the script as the instance runs it. Raises `InputError` where it is too long.

    Compute Engine sees to the longest lifetime. A machine that powered itself off when its worker ended costs no more
    than its disk, until the controller, `stop` or `cleanup` deletes both ("Stop or restart a Compute Engine instance").
    """
    script = boot_script(request.startup_script)
    size = len(script.encode())
    if size > MAX_BYTES:
        raise InputError(
            f"the startup script has {size} bytes; Google Cloud takes {MAX_BYTES}",
            where="run.startup_script",
            hint="let it fetch its larger parts, e.g. from Cloud Storage",
        )
    return script
