"""Reader of the AWS price list: on-demand instances and EBS volumes of one region.

Format of a product, filters and page size: "GetProducts" in the AWS Price List Query API Reference. Units and usage
types of EBS are those found in the list: ``GB-Mo``, ``IOPS-Mo``, and ``GiBps-mo`` for throughput; the tiers of io2 are
separate usage types.

Invariants, each with a test:

1. All pages are read, or an error is raised: never a partial list.
2. An unknown or invalid product is skipped and never gets a price of zero.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import botocore.session

from cloud_tasks.model import Money
from cloud_tasks_aws.errors import translate_errors
from cloud_tasks_aws.pricing.rates import DiskRates, ListPrices
from cloud_tasks_aws.session import partition_of

__all__ = ["fetch_list_prices", "pricing_region"]

_INSTANCES = {
    "operatingSystem": "Linux",
    "marketoption": "OnDemand",
    "capacitystatus": "Used",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
}
_MIB_IN_GIB = 1024
_VOLUMES = frozenset({"gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"})
_USAGE = re.compile(r"(?:^|-)EBS:VolumeP-(?P<what>IOPS|Throughput)\.(?P<kind>[a-z0-9]+)(?:\.tier(?P<tier>[0-9]))?$")
_PLACES = ("AWS Region", "AWS Local Zone")
_BY_USAGE = {"piops": "io1"}


def pricing_region(region: str) -> str:
    """Return the region whose endpoint serves the price list: few regions have one ("AWS Price List API endpoints")."""
    partition = partition_of(region)
    if partition != "aws":
        return next(iter(botocore.session.Session().get_available_regions("pricing", partition)), "us-east-1")
    if region.startswith("eu-"):
        return "eu-central-1"
    return "ap-south-1" if region.startswith("ap-") else "us-east-1"


def fetch_list_prices(client: Any, code: str) -> ListPrices:
    """Fetch the price list of a region.

    Args:
        client: A boto3 client of the price list service.
        code: Region code of the price list; a local zone group has its own prices.

    Raises:
        ProviderError: The list cannot be read completely.
    """
    instances: dict[str, Money] = {}
    for product, price in _products(client, code, _INSTANCES):
        if price is not None and price.usd > 0 and product["attributes"].get("instanceType"):
            instances[product["attributes"]["instanceType"]] = price
    return ListPrices(code=code, fetched_at=datetime.now(UTC), instances=instances, disks=_disks(client, code))


def _disks(client: Any, code: str) -> dict[str, DiskRates]:
    per_gb = {
        product["attributes"]["volumeApiName"]: price
        for product, price in _products(client, code, {"productFamily": "Storage"})
        if price is not None and price.usd > 0 and product["attributes"].get("volumeApiName") in _VOLUMES
    }
    tiers: dict[str, dict[int, Money]] = {}
    throughput: dict[str, Money] = {}
    for family in ("System Operation", "Provisioned Throughput"):
        for product, price in _products(client, code, {"productFamily": family}):
            usage = _USAGE.search(product["attributes"].get("usagetype", ""))
            if usage is None or price is None or not price.usd:
                continue
            kind = _BY_USAGE.get(usage["kind"], usage["kind"])
            if usage["what"] == "IOPS":
                tiers.setdefault(kind, {})[int(usage["tier"] or 1)] = price
            else:
                throughput[kind] = price
    return {
        kind: DiskRates(
            gb=price,
            iops=tuple(tiers.get(kind, {})[tier] for tier in sorted(tiers.get(kind, {}))),
            mb_s=throughput.get(kind),
        )
        for kind, price in per_gb.items()
    }


def _products(client: Any, code: str, filters: Mapping[str, str]) -> Iterator[tuple[dict[str, Any], Money | None]]:
    """Yield the matching products of a region, each with its price per unit in US dollars, or None."""
    conditions = [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in {"regionCode": code, **filters}.items()
    ]
    pages = client.get_paginator("get_products").paginate(
        ServiceCode="AmazonEC2", FormatVersion="aws_v1", Filters=conditions, PaginationConfig={"PageSize": 100}
    )
    with translate_errors(f"reading the price list of {code}"):
        texts = [text for page in pages for text in page["PriceList"]]
    for text in texts:
        try:
            entry = json.loads(text)
            product = entry["product"]
            # Products of Outposts and other places beside the region have its code, and other prices.
            if product["attributes"].get("locationType", _PLACES[0]) not in _PLACES:
                continue
            terms = list(((entry.get("terms") or {}).get("OnDemand") or {}).values())
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        yield product, _price(terms)


def _price(terms: Iterable[Mapping[str, Any]]) -> Money | None:
    """Return the price per unit of the first tier, or None if there is none in US dollars."""
    for term in terms:
        for dimension in term.get("priceDimensions", {}).values():
            try:
                usd = Decimal(dimension["pricePerUnit"]["USD"])
            except (KeyError, TypeError, InvalidOperation):
                continue
            if str(dimension.get("beginRange", "0")) not in ("", "0"):
                continue
            # Throughput is priced per GiB/s and configured in MiB/s.
            return Money(usd / _MIB_IN_GIB if str(dimension.get("unit", "")).lower().startswith("gibps") else usd)
    return None
