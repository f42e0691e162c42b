"""Makes a `GceCompute` from settings: credentials, project, endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_tasks.plugin import ComputeContext
from cloud_tasks_gcp.compute.backend import GceCompute
from cloud_tasks_gcp.compute.clients import Clients
from cloud_tasks_gcp.credentials import credentials, project_id
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["open_gce"]


@contextmanager
def open_gce(settings: GcpSettings, context: ComputeContext) -> Iterator[GceCompute]:
    """Open Compute Engine for one job, or for none. Raises `ProviderError` without credentials or project."""
    endpoint = settings.compute_endpoint
    clients = Clients(credentials(settings, endpoint=endpoint or None), endpoint)
    compute = GceCompute(clients, project_id(settings), settings, context)
    try:
        yield compute
    finally:
        compute.close()
