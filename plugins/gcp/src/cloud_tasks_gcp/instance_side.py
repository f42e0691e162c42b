"""Instance side of Compute Engine: identity and spot interruption notice, from the metadata server.

Uses the standard library only. A thread waits for the preemption of a spot instance with a request that the server
answers when the value changes ("About VM metadata", wait for change), so the notice arrives at once and polling is
free.

Invariants, each with a test, beside those of `PolledInstanceSide`:

1. An answer of another server than Google's is refused.
2. A preemption between two requests is seen by the next one.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPException

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks.plugin.kit import PolledInstanceSide
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["GceInstanceSide", "open_instance"]

_HOST = "metadata.google.internal"
_TIMEOUT = 2.0
_LONG_POLL = 30
"""Maximum time in seconds that the server may hold a request, hence the time to detect a dead connection."""
_PAUSE = 0.5
"""Seconds between two requests, which limit the rate when the server ignores ``wait_for_change``."""
_NOTICE = timedelta(seconds=30)
"""Time between the notice and the termination of the instance ("Spot VMs", preemption process)."""


class GceInstanceSide(PolledInstanceSide):
    """The `InstanceSide` of one instance.

    Args:
        environ: Environment; ``GCE_METADATA_HOST`` (``host`` or ``host:port``) overrides the metadata server, as in
            Google's own libraries.
    """

    notice_interval = 0.2
    """Polling interval in seconds: polling is free, and the guest shuts down within a second of the notice."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, now: Callable[[], datetime] | None = None) -> None:
        super().__init__(pause=_PAUSE)
        host = environ.get("GCE_METADATA_HOST") or _HOST
        self._base = f"http://{host}/computeMetadata/v1/instance/"
        # The metadata server is never reached through a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._now = now or (lambda: datetime.now(UTC))
        self._etag = ""
        """ETag of the last answer; empty after a failure."""

    def _read_identity(self) -> InstanceIdentity:
        return InstanceIdentity(
            instance_id=self._get("name"),
            zone=self._get("zone").rpartition("/")[2],
            instance_type=self._get("machine-type").rpartition("/")[2],
        )

    def _read_notice(self) -> TerminationNotice | None:
        # The first request returns at once, each later one when the value differs from that of `last_etag`.
        etag, self._etag = self._etag, ""
        query = f"?wait_for_change=true&timeout_sec={_LONG_POLL}&last_etag={etag}" if etag else ""
        value, self._etag = self._request(f"preempted{query}", timeout=_LONG_POLL + 10.0 if etag else _TIMEOUT)
        if value.upper() != "TRUE":
            return None
        return TerminationNotice(at=self._now() + _NOTICE, reason="preempted by Compute Engine")

    def _get(self, path: str) -> str:
        return self._request(path, timeout=_TIMEOUT)[0]

    def _request(self, path: str, *, timeout: float) -> tuple[str, str]:
        """Return a value and the ETag of its state."""
        request = urllib.request.Request(self._base + path, headers={"Metadata-Flavor": "Google"})
        try:
            with self._opener.open(request, timeout=timeout) as response:
                if response.headers.get("Metadata-Flavor") != "Google":
                    raise ProviderError("the server at the metadata address is not Google's", transient=True)
                return str(response.read().decode().strip()), str(response.headers.get("ETag") or "")
        except urllib.error.HTTPError as error:
            error.close()
            raise ProviderError(f"the metadata server returned HTTP {error.code}", transient=True) from error
        except (OSError, HTTPException, ValueError) as error:
            raise ProviderError(f"cannot reach the metadata server: {type(error).__name__}", transient=True) from error


def open_instance(settings: GcpSettings, context: InstanceContext) -> GceInstanceSide:
    """Implement `ComputeBackend.open_instance`."""
    return GceInstanceSide()
