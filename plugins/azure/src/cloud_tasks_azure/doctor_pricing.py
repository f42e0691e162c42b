"""Doctor check of prices, with the Retail Prices API, which needs no account."""

from __future__ import annotations

from collections.abc import Iterator

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import Probe, run_probes
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.pricing.retail import has_vm_prices
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_pricing"]


def check_pricing(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for the prices of the region."""
    region = (context.region or location_of(context.zone or "")).lower()

    def look() -> str:
        if not has_vm_prices(settings.prices_endpoint, region):
            hint = "run: cloud-tasks list-regions --provider azure"
            raise CloudTasksError(f'no instance prices in "{region}"', hint=hint)
        return f"has instance prices in {region}"

    if not region:
        yield Finding(ok=False, subject="region", message="not set", remedy="set --region or run.region")
        return
    address = f"{settings.prices_endpoint.rstrip('/')}/api/retail/prices"
    remedy = f"check the network access of this machine: curl '{address}?$top=1'"
    yield from run_probes([Probe(subject="Retail Prices API", look=look, remedy=remedy, prevents_run=False)])
