"""Fake of the Cloud Billing Catalog: ``services.skus.list`` over HTTP, with pages, faults and refusals.

It serves the SKUs of `billing_skus.json`, written for the tests in the API's format. In us-central1, the prices of
cores, memory, GPUs and local SSD give the prices of instances in `list_prices.csv`, which names its source and date;
where that list has only sums (GPU types), their parts are estimates. A3 Mega, A3 Ultra, A4, M4N, H4D, Z4D, G4, spot M2
and other regions have the right order of magnitude only. Disks have Google's prices of 2025.

As a program it prints its address and serves until its standard input is closed: ``python billing_fake.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_server import Answer, FakeServer, Request

__all__ = ["COMPUTE_ENGINE", "BillingFake", "google_error", "skus"]

COMPUTE_ENGINE = "6F81-5844-456A"
_FIXTURE = Path(__file__).with_name("billing_skus.json")
_DEFAULT_PAGE = 5_000


def skus() -> list[dict[str, Any]]:
    """Return the SKUs of the fixture."""
    found: list[dict[str, Any]] = json.loads(_FIXTURE.read_text())["skus"]
    return found


def google_error(
    status: int,
    reason: str,
    message: str,
    *,
    name: str = "PERMISSION_DENIED",
    metadata: Mapping[str, str] | None = None,
) -> Answer:
    """Return an error in the format of Google's APIs: a status, a message and an ``ErrorInfo``."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": dict(metadata or {}),
    }
    return Answer(
        status=status, body={"error": {"code": status, "message": message, "status": name, "details": [info]}}
    )


class BillingFake:
    """Fake catalog; its fields may be changed at any time.

    Args:
        server: HTTP server.
    """

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.skus: Sequence[Mapping[str, Any]] = skus()
        self.page_size: int | None = None
        """Maximum page size below the requested one; None for the requested size."""
        self.refusal: Answer | None = None
        """Response to every call; None for the regular responses."""
        self.calls = 0
        server.route("GET", r"/v1/services/(?P<service>[^/]+)/skus", self._list)

    @property
    def url(self) -> str:
        """Value for the setting ``gcp.billing_endpoint``."""
        return self.server.url

    def _list(self, request: Request) -> Any:
        self.calls += 1
        if self.refusal is not None:
            return self.refusal
        if request.groups["service"] != COMPUTE_ENGINE:
            return google_error(404, "NOT_FOUND", "Requested entity was not found.", name="NOT_FOUND")
        if request.query.get("currencyCode", "USD") != "USD":
            return google_error(400, "INVALID_ARGUMENT", "Unsupported currency.", name="INVALID_ARGUMENT")
        size = min(int(request.query.get("pageSize") or _DEFAULT_PAGE), self.page_size or _DEFAULT_PAGE)
        token = request.query.get("pageToken", "")
        if token and not token.startswith("from-"):
            return google_error(400, "INVALID_ARGUMENT", "Invalid page token.", name="INVALID_ARGUMENT")
        start = int(token.removeprefix("from-") or 0)
        end = start + size
        following = f"from-{end}" if end < len(self.skus) else ""
        return {"skus": list(self.skus[start:end]), "nextPageToken": following}


@contextmanager
def serving() -> Iterator[BillingFake]:
    """Run a catalog fake on loopback."""
    with FakeServer().serving() as server:
        yield BillingFake(server)


if __name__ == "__main__":
    with serving() as fake:
        print(fake.url, flush=True)
        sys.stdin.read()
