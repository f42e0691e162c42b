"""Opening of the Azure pricing backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import PricingContext
from cloud_tasks.plugin.kit import PriceCache
from cloud_tasks_azure.compute.zones import location_of
from cloud_tasks_azure.pricing.cache import price_files
from cloud_tasks_azure.pricing.retail import fetch_prices
from cloud_tasks_azure.pricing.retail_pricing import RetailPricing
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["open_pricing"]


@contextmanager
def open_pricing(settings: AzureSettings, context: PricingContext) -> Iterator[RetailPricing]:
    """Open the prices of a region; they are fetched when first needed. Raises `InputError` without a region."""
    region = (context.region or location_of(context.zone or "")).lower()
    if not region:
        raise InputError("no region is set", hint="set --region or --zone; list regions with: cloud-tasks list-regions")
    prices = PriceCache(
        "Prices",
        files=price_files(context.cache_dir, settings.prices_endpoint),
        fetch=lambda name, _: {name: fetch_prices(settings.prices_endpoint, name)},
        max_age=timedelta(hours=settings.price_max_age_hours),
    )
    pricing = RetailPricing(region, prices)
    yield pricing
    pricing.close()
