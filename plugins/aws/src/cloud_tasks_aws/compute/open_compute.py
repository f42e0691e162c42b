"""Opening of the EC2 compute backend."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.backend import Ec2Compute
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

__all__ = ["open_compute"]

_CONNECTIONS = 20


@contextmanager
def open_compute(settings: AwsSettings, context: ComputeContext) -> Iterator[Compute]:
    """Open EC2 in the context's region, or in the SDK's configured region."""

    def create_client(service: str, region: str | None = None, *, once: bool = False) -> Any:
        if once:
            return client(settings, service, region or context.region, connections=_CONNECTIONS, attempts=1)
        return client(settings, service, region or context.region, connections=_CONNECTIONS)

    compute = Ec2Compute(settings, context, client=create_client, identity=_identity(settings))
    try:
        yield compute
    finally:
        compute.close()


def _identity(settings: AwsSettings) -> str:
    """Return account and endpoint that cached answers belong to, without calling AWS."""
    parts = (
        settings.profile or os.environ.get("AWS_PROFILE", ""),
        settings.access_key or os.environ.get("AWS_ACCESS_KEY_ID", ""),
        settings.ec2_endpoint or settings.endpoint_url or "",
        str(settings.credentials_file or ""),
    )
    return "\n".join(parts)
