"""Reads the Retail Prices API: the meters of Linux machines and of managed disks in one region, page by page.

"Azure Retail Prices overview": items of type Consumption in US dollars; ``NextPageLink`` leads to the next page. A name
of a product or meter tells what an item is for: Windows, Low Priority (Batch), Cloud Services and Dedicated Host are
others.

Invariants, each with a test:

1. All pages are read, or an error is raised: prices are never those of a part.
2. A size has one price: the lowest tier's, of the latest date in force.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from http.client import HTTPException
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Money
from cloud_tasks_azure.pricing.rates import RegionPrices

__all__ = ["disk_prices", "fetch_prices", "machine_prices", "sells_machines"]

_VERSION = "2023-01-01-preview"
_TIMEOUT = 60
_ATTEMPTS = 4
_PAUSE = 1.0
_MOST_PAGES = 1000
"""More than a region has by far: a link that leads in a circle ends."""

_NOT_OURS = re.compile(r"Windows|Cloud ?Services|Dedicated Host|Low Priority|\bBYOL\b|Reservation", re.IGNORECASE)
_SPOT = re.compile(r"\bSpot\b")
_DISK_PRODUCTS = ("Standard HDD Managed Disks", "Standard SSD Managed Disks", "Premium SSD Managed Disks")
_DISK_METER = re.compile(r"(?P<tier>[SEP]\d{1,2})( LRS)? Disk", re.IGNORECASE)


def fetch_prices(endpoint: str, region: str, *, pause: float = _PAUSE) -> RegionPrices:
    """The prices of a region. Raises `ProviderError` where they cannot be had, or not all of them."""
    now = datetime.now(UTC)
    common = f"armRegionName eq '{region}' and priceType eq 'Consumption'"
    machines = tuple(_items(endpoint, f"serviceName eq 'Virtual Machines' and {common}", pause=pause))
    disks = tuple(
        _items(
            endpoint, f"serviceName eq 'Storage' and contains(productName, 'Managed Disks') and {common}", pause=pause
        )
    )
    on_demand, spot = machine_prices(machines, now)
    if not on_demand:
        raise ProviderError(
            f'the Retail Prices API knows no machines in "{region}"',
            hint="cloud-tasks list-regions shows the regions that there are",
        )
    return RegionPrices(region=region, fetched_at=now, on_demand=on_demand, spot=spot, disks=disk_prices(disks, now))


def sells_machines(endpoint: str, region: str, *, pause: float = _PAUSE) -> bool:
    """Whether there is a price of any machine in a region: one page is read. Raises `ProviderError`."""
    wanted = f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}' and priceType eq 'Consumption'"
    return next(_items(endpoint, wanted, pause=pause), None) is not None


def machine_prices(items: Iterable[Mapping[str, Any]], now: datetime) -> tuple[dict[str, Money], dict[str, Money]]:
    """Prices per hour on demand and as spot, by size, from the API's items; others are passed over."""
    on_demand: dict[str, tuple[str, Money]] = {}
    spot: dict[str, tuple[str, Money]] = {}
    for item in items:
        names = [str(item.get(key) or "") for key in ("productName", "skuName", "meterName")]
        size = str(item.get("armSkuName") or "")
        if not size.startswith("Standard_") or any(_NOT_OURS.search(name) for name in names):
            continue
        if item.get("unitOfMeasure") != "1 Hour" or not _counts(item, now):
            continue
        price = _price(item)
        if price is not None:
            kept = spot if _SPOT.search(names[1]) or _SPOT.search(names[2]) else on_demand
            _keep(kept, size, str(item.get("effectiveStartDate") or ""), price)
    return _prices(on_demand), _prices(spot)


def disk_prices(items: Iterable[Mapping[str, Any]], now: datetime) -> dict[str, Money]:
    """Prices per month by tier; transactions, which Standard disks are charged for too, are not part of them."""
    found: dict[str, tuple[str, Money]] = {}
    for item in items:
        match = _DISK_METER.fullmatch(str(item.get("meterName") or ""))
        if match is None or item.get("productName") not in _DISK_PRODUCTS:
            continue
        if not str(item.get("skuName") or "").endswith("LRS") or item.get("unitOfMeasure") != "1/Month":
            continue
        price = _price(item)
        if price is not None and _counts(item, now):
            _keep(found, match["tier"].upper(), str(item.get("effectiveStartDate") or ""), price)
    return _prices(found)


def _counts(item: Mapping[str, Any], now: datetime) -> bool:
    """Whether an item is in force, for whoever buys little, in US dollars."""
    if item.get("type") != "Consumption" or item.get("currencyCode", "USD") != "USD":
        return False
    if item.get("tierMinimumUnits") not in (None, 0, 0.0):
        return False
    start = str(item.get("effectiveStartDate") or "")
    return not start or start[:10] <= now.date().isoformat()


def _price(item: Mapping[str, Any]) -> Money | None:
    try:
        usd = Decimal(str(item["retailPrice"]))
    except (KeyError, InvalidOperation):
        return None
    return Money(usd) if usd > 0 else None


def _keep(kept: dict[str, tuple[str, Money]], name: str, start: str, price: Money) -> None:
    known = kept.get(name)
    if known is None or (start, -price.usd) > (known[0], -known[1].usd):
        kept[name] = (start, price)


def _prices(kept: Mapping[str, tuple[str, Money]]) -> dict[str, Money]:
    return {name: price for name, (_, price) in sorted(kept.items())}


def _items(endpoint: str, wanted: str, *, pause: float) -> Iterator[Mapping[str, Any]]:
    query = urllib.parse.urlencode({"api-version": _VERSION, "$filter": wanted})
    address: str | None = f"{endpoint.rstrip('/')}/api/retail/prices?{query}"
    for _ in range(_MOST_PAGES):
        if not address:
            return
        page = _page(address, pause)
        yield from page["Items"]
        address = page.get("NextPageLink")
    raise ProviderError("the Retail Prices API has no last page", transient=True)


def _page(address: str, pause: float, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
                page = json.loads(answer.read())
            if not isinstance(page, dict) or not isinstance(page.get("Items"), list):
                raise ProviderError("the Retail Prices API answered something else than prices", transient=True)
            return page
        except urllib.error.HTTPError as error:
            error.close()
            problem = ProviderError(
                f"the Retail Prices API answered {error.code}", transient=error.code == 429 or error.code >= 500
            )
        except (OSError, HTTPException, ValueError) as error:
            problem = ProviderError(
                f"the Retail Prices API cannot be read: {type(error).__name__}",
                transient=True,
                hint="check the network",
            )
        if not problem.transient or attempt == _ATTEMPTS:
            raise problem
        sleep(pause * 2 ** (attempt - 1))
    raise AssertionError("unreachable")
