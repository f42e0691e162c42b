"""Instance side of Compute Engine: identity and spot interruption notice, from the metadata server.

Uses the standard library only. A thread waits for the preemption of a spot instance with a request that the server
answers when the value changes ("About VM metadata", wait for change), so the notice arrives at once and polling is
free.

Invariants, each with a test:

1. `termination_notice` never waits for the network.
2. A received notice stays; a failed request is not a notice.
3. An identity is cached only after a successful response.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPException

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["GceInstanceSide", "open_instance"]

_HOST = "metadata.google.internal"
_TIMEOUT = 2.0
_LONG_POLL = 30
"""Maximum time in seconds that the server may hold a request, hence the time to detect a dead connection."""
_NOTICE = timedelta(seconds=30)
"""Time between the notice and the termination of the instance ("Spot VMs", preemption process)."""
_BACKOFF = 1.0


class GceInstanceSide:
    """The `InstanceSide` of one instance.

    Args:
        environ: Environment; ``GCE_METADATA_HOST`` (``host`` or ``host:port``) overrides the metadata server, as in
            Google's own libraries.
    """

    notice_interval = 0.2
    """Polling interval in seconds: polling is free, and the guest shuts down within a second of the notice."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, now: Callable[[], datetime] | None = None) -> None:
        host = environ.get("GCE_METADATA_HOST") or _HOST
        self._base = f"http://{host}/computeMetadata/v1/instance/"
        # The metadata server is never reached through a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._now = now or (lambda: datetime.now(UTC))
        self._identity: InstanceIdentity | None = None
        self._notice: TerminationNotice | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None

    def identity(self) -> InstanceIdentity:
        if self._identity is None:
            self._identity = InstanceIdentity(
                instance_id=self._get("name"),
                zone=self._get("zone").rpartition("/")[2],
                instance_type=self._get("machine-type").rpartition("/")[2],
            )
        return self._identity

    def termination_notice(self) -> TerminationNotice | None:
        with self._lock:
            if self._watcher is None and not self._closed.is_set():
                self._watcher = threading.Thread(target=self._watch, name="gcp-preemption", daemon=True)
                self._watcher.start()
        return self._notice

    def close(self) -> None:
        """Stop the watching thread, without waiting for a running request."""
        self._closed.set()

    def _watch(self) -> None:
        etag = ""
        while not self._closed.is_set() and self._notice is None:
            started = time.monotonic()
            # The first request returns at once, each later one when the value differs from that of `last_etag`.
            query = f"?wait_for_change=true&timeout_sec={_LONG_POLL}&last_etag={etag}" if etag else ""
            try:
                value, tag = self._request(f"preempted{query}", timeout=_LONG_POLL + 10.0 if etag else _TIMEOUT)
            except Exception:  # whatever the answer: without this thread, no notice would arrive
                etag = ""
                self._closed.wait(_BACKOFF)
                continue
            if value.upper() == "TRUE":
                self._notice = TerminationNotice(at=self._now() + _NOTICE, reason="preempted by Compute Engine")
                return
            if not tag or (etag and time.monotonic() - started < _BACKOFF):
                self._closed.wait(_BACKOFF)  # limit the request rate when the server ignores wait_for_change
            etag = tag

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
