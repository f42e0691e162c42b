"""Local checks of a launch request, without a call to AWS."""

from __future__ import annotations

import re

from cloud_tasks.errors import InputError
from cloud_tasks.model import LaunchRequest
from cloud_tasks_aws.compute.disks import disk_problem
from cloud_tasks_aws.compute.startup_script import compose_script, encode_script
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["check_launch"]

_REGION = re.compile(r"[a-z]+(-[a-z]+)+-[0-9]+")
"""Region part of a zone name, local zones included: ``us-west-2`` of ``us-west-2-lax-1a``."""


def check_launch(settings: AwsSettings, request: LaunchRequest) -> None:
    """Raise `InputError` if the boot disk is invalid or the startup script is too long."""
    problem = disk_problem(request.offer.boot_disk)
    if problem:
        raise InputError(problem, where="run.boot_disk_types")
    zone = request.offer.zone
    region = _REGION.match(zone)
    script = compose_script(
        request.startup_script,
        region=region[0] if region else zone,
        max_lifetime=request.max_lifetime,
        startup_timeout=request.startup_timeout,
        is_chosen=bool(request.alternatives),
    )
    encode_script(script, store=None if settings.script_location is None else lambda _: b"")
