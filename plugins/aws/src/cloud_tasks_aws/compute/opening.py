"""Opens the machines of a region."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.ec2 import Ec2Compute
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["open_compute"]

_CONNECTIONS = 20


@contextmanager
def open_compute(settings: AwsSettings, context: ComputeContext) -> Iterator[Compute]:
    """The machines of the context's region, or of the one that the SDK's own configuration names."""

    def make(service: str, region: str | None = None, *, once: bool = False) -> Any:
        if once:
            return client(settings, service, region or context.region, connections=_CONNECTIONS, attempts=1)
        return client(settings, service, region or context.region, connections=_CONNECTIONS)

    compute = Ec2Compute(settings, context, client=make, identity=_identity(settings))
    try:
        yield compute
    finally:
        compute.close()


def _identity(settings: AwsSettings) -> str:
    """Whose account and which endpoint an answer belongs to, without asking anybody."""
    parts = (
        settings.profile or os.environ.get("AWS_PROFILE", ""),
        settings.access_key or os.environ.get("AWS_ACCESS_KEY_ID", ""),
        settings.ec2_endpoint or settings.endpoint_url or "",
        str(settings.credentials_file or ""),
    )
    return "\n".join(parts)
