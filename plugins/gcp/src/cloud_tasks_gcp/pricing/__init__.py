"""Prices from the Cloud Billing Catalog.

Data flow: `catalog` (HTTP) → `skus` (one price) → `titles` (what it prices) → `rates` (of a region) → `cache`. `parts`
lists the priced parts of an instance and its disk, and `catalog_pricing` combines the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloud_tasks.plugin import Pricing, PricingContext
from cloud_tasks_gcp.pricing.catalog_pricing import CatalogPricing
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["CatalogPricing", "open_pricing"]


@contextmanager
def open_pricing(settings: GcpSettings, context: PricingContext) -> Iterator[Pricing]:
    """Open the prices of Google Cloud; the first request fetches the price list."""
    pricing = CatalogPricing(settings, context)
    try:
        yield pricing
    finally:
        pricing.close()
