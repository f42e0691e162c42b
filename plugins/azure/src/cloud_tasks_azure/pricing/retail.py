"""Reader of the Retail Prices API: meters of Linux VMs and of managed disks in one region, page by page.

"Azure Retail Prices overview": items of type Consumption in US dollars; ``NextPageLink`` is the next page. The names of
product and meter exclude other items: Windows, Low Priority (Batch), Cloud Services and Dedicated Host.

Invariants, each with a test:

1. All pages are read, or an error is raised: never a partial list.
2. A size has one price: the lowest tier's with the latest start; of several with one start the highest.
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

import attrs

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Money

__all__ = ["RegionPrices", "disk_prices", "fetch_prices", "has_vm_prices", "vm_prices"]

_VERSION = "2023-01-01-preview"
_TIMEOUT = 60
_ATTEMPTS = 6
_INITIAL_BACKOFF = 1.0
_MAX_PAUSE = 60.0
"""Seconds; a throttled client is served again after about half a minute."""
_MAX_PAGES = 1000
"""Far more than a region has: ends a cycle of links."""

_EXCLUDED = re.compile(
    r"Windows|Cloud ?Services|Dedicated Host|Low Priority|Reservation|\b(BYOL|Expired|Free|RHEL|SLES)\b", re.IGNORECASE
)
_SPOT = re.compile(r"\bSpot\b")
_DISK_PRODUCTS = ("Standard HDD Managed Disks", "Standard SSD Managed Disks", "Premium SSD Managed Disks")
_DISK_METER = re.compile(r"(?P<tier>[SEP]\d{1,2})( LRS)? Disk", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class RegionPrices:
    """Retail prices of a region, in US dollars."""

    region: str
    fetched_at: datetime
    """UTC."""
    on_demand: Mapping[str, Money]
    """Prices per hour for Linux, by VM size."""
    spot: Mapping[str, Money]
    """Spot prices per hour for Linux, by VM size."""
    disks: Mapping[str, Money]
    """Prices per month, by tier of locally redundant storage: ``P10``."""


def fetch_prices(endpoint: str, region: str, *, backoff: float = _INITIAL_BACKOFF) -> RegionPrices:
    """Fetch the prices of a region. Raises `ProviderError` if they cannot be read completely."""
    now = datetime.now(UTC)
    common = f"armRegionName eq '{region}' and priceType eq 'Consumption'"
    vms = tuple(_items(endpoint, f"serviceName eq 'Virtual Machines' and {common}", backoff=backoff))
    managed_disks = f"serviceName eq 'Storage' and contains(productName, 'Managed Disks') and {common}"
    disks = tuple(_items(endpoint, managed_disks, backoff=backoff))
    on_demand, spot = vm_prices(vms, now)
    if not on_demand:
        raise ProviderError(
            f'no instance prices in "{region}"',
            hint="list regions with: cloud-tasks list-regions --provider azure",
        )
    return RegionPrices(region=region, fetched_at=now, on_demand=on_demand, spot=spot, disks=disk_prices(disks, now))


def has_vm_prices(endpoint: str, region: str, *, backoff: float = _INITIAL_BACKOFF) -> bool:
    """Return whether a region has any instance price, from one page. Raises `ProviderError`."""
    conditions = f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}' and priceType eq 'Consumption'"
    return next(_items(endpoint, conditions, backoff=backoff), None) is not None


def vm_prices(items: Iterable[Mapping[str, Any]], now: datetime) -> tuple[dict[str, Money], dict[str, Money]]:
    """Return on-demand and spot prices per hour, by VM size, from the API's items; other items are ignored."""
    on_demand: dict[str, tuple[str, Money]] = {}
    spot: dict[str, tuple[str, Money]] = {}
    for item in items:
        names = [str(item.get(key) or "") for key in ("productName", "skuName", "meterName")]
        size = str(item.get("armSkuName") or "")
        if not size.startswith("Standard_") or any(_EXCLUDED.search(name) for name in names):
            continue
        if item.get("unitOfMeasure") != "1 Hour" or not _is_in_force(item, now):
            continue
        price = _price(item)
        if price is not None:
            kept = spot if _SPOT.search(names[1]) or _SPOT.search(names[2]) else on_demand
            _keep(kept, size, str(item.get("effectiveStartDate") or ""), price)
    return _prices(on_demand), _prices(spot)


def disk_prices(items: Iterable[Mapping[str, Any]], now: datetime) -> dict[str, Money]:
    """Return prices per month by tier; billed transactions of Standard disks are not included."""
    found: dict[str, tuple[str, Money]] = {}
    for item in items:
        match = _DISK_METER.fullmatch(str(item.get("meterName") or ""))
        if match is None or item.get("productName") not in _DISK_PRODUCTS:
            continue
        if not str(item.get("skuName") or "").endswith("LRS") or item.get("unitOfMeasure") != "1/Month":
            continue
        price = _price(item)
        if price is not None and _is_in_force(item, now):
            _keep(found, match["tier"].upper(), str(item.get("effectiveStartDate") or ""), price)
    return _prices(found)


def _is_in_force(item: Mapping[str, Any], now: datetime) -> bool:
    """Return whether an item is the current consumption price of the first tier, in US dollars."""
    if item.get("type") != "Consumption" or item.get("currencyCode", "USD") != "USD":
        return False
    if item.get("tierMinimumUnits") not in (None, 0, 0.0):
        return False
    today = now.date().isoformat()
    start, end = (str(item.get(f"effective{each}Date") or "")[:10] for each in ("Start", "End"))
    return start <= today and (not end or today <= end)


def _price(item: Mapping[str, Any]) -> Money | None:
    try:
        usd = Decimal(str(item["retailPrice"]))
    except (KeyError, InvalidOperation):
        return None
    return Money(usd) if usd > 0 else None


def _keep(kept: dict[str, tuple[str, Money]], name: str, start: str, price: Money) -> None:
    known = kept.get(name)
    # Of two prices in force the one that started later; of one start the higher, so that no limit is passed.
    if known is None or (start, price.usd) > (known[0], known[1].usd):
        kept[name] = (start, price)


def _prices(kept: Mapping[str, tuple[str, Money]]) -> dict[str, Money]:
    return {name: price for name, (_, price) in sorted(kept.items())}


def _items(endpoint: str, conditions: str, *, backoff: float) -> Iterator[Mapping[str, Any]]:
    query = urllib.parse.urlencode({"api-version": _VERSION, "$filter": conditions})
    url: str | None = f"{endpoint.rstrip('/')}/api/retail/prices?{query}"
    for _ in range(_MAX_PAGES):
        if not url:
            return
        page = _page(url, backoff)
        yield from page["Items"]
        url = page.get("NextPageLink")
    raise ProviderError(f"the Retail Prices API has more than {_MAX_PAGES} pages", transient=True)


def _page(url: str, backoff: float, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    for attempt in range(1, _ATTEMPTS + 1):
        asked = ""
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
                page = json.loads(response.read())
            if not isinstance(page, dict) or not isinstance(page.get("Items"), list):
                raise ProviderError("invalid response of the Retail Prices API", transient=True)
            return page
        except urllib.error.HTTPError as error:
            asked = str(error.headers.get("Retry-After") or "")
            error.close()
            problem = ProviderError(
                f"the Retail Prices API answered {error.code}", transient=error.code == 429 or error.code >= 500
            )
        except (OSError, HTTPException, ValueError) as error:
            problem = ProviderError(
                f"cannot read the Retail Prices API: {type(error).__name__}",
                transient=True,
                hint="check the network",
            )
        if not problem.transient or attempt == _ATTEMPTS:
            raise problem
        sleep(min(float(asked) if asked.isdigit() else backoff * 2 ** (attempt - 1), _MAX_PAUSE))
    raise AssertionError("unreachable")
