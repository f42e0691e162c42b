"""Fetching of Compute Engine's price list from the Cloud Billing Catalog.

Source: Cloud Billing API, method services.skus.list; "6F81-5844-456A" is Compute Engine's service id, and 5,000 the
maximum page size. The whole list has about 35,000 SKUs for all regions; the API has no filter by region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks_gcp.pricing.rates import Rates, rates_by_region
from cloud_tasks_gcp.pricing.skus import read_skus
from cloud_tasks_gcp.rest import Rest
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["LIST", "SERVICE", "endpoint_of", "fetch_rates"]

SERVICE = "cloudbilling.googleapis.com"
LIST = "v1/services/6F81-5844-456A/skus"
_PAGE = 5_000
_MAX_PAGES = 200


def endpoint_of(settings: GcpSettings) -> str:
    """Return the endpoint of the catalog."""
    return settings.billing_endpoint or f"https://{SERVICE}"


def fetch_rates(
    settings: GcpSettings, *, attempts: int = 5, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Mapping[str, Rates]:
    """Fetch the current rates of every region. Raise `ProviderError`; never return a partial list.

    Args:
        attempts: Maximum number of attempts per page for transient errors.
    """
    project = settings.project_id or ""
    with Rest(settings, endpoint_of(settings), service=SERVICE, project=project, attempts=attempts) as rest:
        rates = rates_by_region(read_skus(_pages(rest)), now())
    if not rates:
        raise ProviderError("the Cloud Billing Catalog has no prices for Compute Engine", transient=True)
    return rates


def _pages(rest: Rest) -> Iterator[Mapping[str, Any]]:
    token = ""
    for _ in range(_MAX_PAGES):
        answer = rest.get(LIST, pageSize=str(_PAGE), currencyCode="USD", **({"pageToken": token} if token else {}))
        yield answer
        token = str(answer.get("nextPageToken") or "")
        if not token:
            return
    raise ProviderError(f"the Cloud Billing Catalog has more than {_MAX_PAGES} pages", transient=True)
