"""Prices from the Cloud Billing Catalog.

Data flows one way: catalog (HTTP) → skus (one price) → titles (what it prices) → rates (of a region) → cache;
parts says what a machine and its disk consist of, and catalog_pricing puts the two together.
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
    """The prices of Google Cloud; nothing is fetched before the first is asked for."""
    pricing = CatalogPricing(settings, context)
    try:
        yield pricing
    finally:
        pricing.close()
