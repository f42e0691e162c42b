"""Doctor checks of prices, with the Retail Prices API, which needs no account."""

from __future__ import annotations

from collections.abc import Iterator

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.pricing.retail import has_vm_prices
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_pricing"]


def check_pricing(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for the prices of the region."""
    subject = "Retail Prices API"
    region = (context.region or location_of(context.zone or "")).lower()
    if not region:
        yield Finding(ok=False, subject="region", message="not set", remedy="set --region or run.region")
        return
    address = f"{settings.prices_endpoint.rstrip('/')}/api/retail/prices"
    try:
        known = has_vm_prices(settings.prices_endpoint, region)
    except CloudTasksError as error:
        remedy = f"check the network access of this machine: curl '{address}?$top=1'"
        yield Finding(ok=False, subject=subject, message=error.message, remedy=remedy)
        return
    if known:
        yield Finding(ok=True, subject=subject, message=f"has instance prices in {region}")
    else:
        message = f'no instance prices in "{region}"'
        remedy = "run: cloud-tasks list-regions --provider azure"
        yield Finding(ok=False, subject=subject, message=message, remedy=remedy)
