"""Reader of current spot prices: the newest entry of the price history for each type and zone.

"DescribeSpotPriceHistory" in the Amazon EC2 API Reference: with a start time of now it returns the prices in force.

Invariant, with a test: all pages are read, or an error is raised; the newest entry of a type and zone counts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from cloud_tasks.model import Money
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.pricing.rates import SpotPrices

__all__ = ["fetch_spot_prices"]

_PLATFORM = "Linux/UNIX"


def fetch_spot_prices(client: Any, region: str) -> SpotPrices:
    """Fetch the current spot prices of all types in all zones of a region.

    Args:
        client: A boto3 client of EC2.

    Raises:
        ProviderError: The prices cannot be read completely.
    """
    now = datetime.now(UTC)
    latest: dict[tuple[str, str], tuple[datetime, Money]] = {}
    with translate_errors(f"reading the spot prices of {region}"):
        pages = client.get_paginator("describe_spot_price_history").paginate(
            StartTime=now, ProductDescriptions=[_PLATFORM], PaginationConfig={"PageSize": 1000}
        )
        entries = [entry for page in pages for entry in page["SpotPriceHistory"]]
    for entry in entries:
        try:
            price = Money(Decimal(entry["SpotPrice"]))
        except InvalidOperation:
            continue
        key = (entry["AvailabilityZone"], entry["InstanceType"])
        if key not in latest or latest[key][0] < entry["Timestamp"]:
            latest[key] = (entry["Timestamp"], price)
    zones: dict[str, dict[str, Money]] = {}
    for (zone, name), (_, price) in latest.items():
        zones.setdefault(zone, {})[name] = price
    return SpotPrices(region=region, fetched_at=now, zones=zones)
