"""Retail Prices API fake on loopback, with filters, linked pages and faults.

`retail_prices.json` has the format of the API's items and the prices of eastus of 2026-06-18. It was never compared
with the API itself: `published_prices.json` has the figures of other projects, which read the API, and their names.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from fake_server import Answer, FakeServer, Request

__all__ = ["RetailFake", "retail_items"]

_EQUAL = re.compile(r"(\w+) eq '([^']*)'")
_CONTAINS = re.compile(r"contains\((\w+), ?'([^']*)'\)")


@cache
def retail_items() -> tuple[dict[str, Any], ...]:
    """Return the committed items."""
    return tuple(json.loads(Path(__file__).with_name("retail_prices.json").read_text()))


class RetailFake:
    """The running fake."""

    def __init__(self, *, page_size: int = 100, seed: int = 1) -> None:
        self.items: list[dict[str, Any]] = list(retail_items())
        self.page_size = page_size
        self.server = FakeServer(seed=seed)
        self.server.route("GET", r"/api/retail/prices", self._prices)

    @property
    def url(self) -> str:
        """Value of ``prices_endpoint``."""
        return self.server.url

    def __enter__(self) -> RetailFake:
        self.server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.close()

    def _prices(self, request: Request) -> Answer:
        try:
            found = [item for item in self.items if _fits(item, request.query.get("$filter", ""))]
        except ValueError as error:
            return Answer(status=400, body={"Error": {"Code": "BadRequest", "Message": str(error)}})
        skip = int(request.query.get("$skip", 0))
        page = found[skip : skip + self.page_size]
        link = None
        if skip + self.page_size < len(found):
            query = urllib.parse.urlencode({**request.query, "$skip": skip + self.page_size})
            link = f"{self.url}{request.path}?{query}"
        body = {
            "BillingCurrency": "USD",
            "CustomerEntityType": "Retail",
            "Items": page,
            "NextPageLink": link,
            "Count": len(page),
        }
        return Answer(body=body)


def _fits(item: dict[str, Any], wanted: str) -> bool:
    for condition in wanted.split(" and ") if wanted else ():
        equal, contains = _EQUAL.fullmatch(condition), _CONTAINS.fullmatch(condition)
        key = "type" if equal and equal[1] == "priceType" else (equal or contains or ["", ""])[1]
        if equal is not None and str(item.get(key)) != equal[2]:
            return False
        if contains is not None and contains[2] not in str(item.get(key)):
            return False
        if equal is None and contains is None:
            raise ValueError(f"Invalid filter: {condition}")
    return True
