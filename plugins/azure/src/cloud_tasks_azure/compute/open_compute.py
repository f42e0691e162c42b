"""Opening of the Azure compute backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_tasks.plugin import ComputeContext
from cloud_tasks_azure.compute.backend import AzureCompute
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["open_compute"]


@contextmanager
def open_compute(settings: AzureSettings, context: ComputeContext) -> Iterator[AzureCompute]:
    """Open Virtual Machines. Raises `ProviderError` without a subscription."""
    compute = AzureCompute(Clients(settings), settings, context)
    try:
        yield compute
    finally:
        compute.close()
