"""What a worker asks its Compute Engine machine: who it is, and whether it is being taken away.

Asks the metadata server, with the standard library alone. The preemption of a spot machine is waited for in a thread by
a request that the server answers when the value changes ("About VM metadata", wait for change), so that asking
for it costs nothing and it is known at once.

Invariants, each with a test:

1. `termination_notice` never waits for the network.
2. A notice that was seen stays; an answer that failed is no notice.
3. An identity is remembered only when the server gave it.
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

__all__ = ["GceInstanceSide"]

_HOST = "metadata.google.internal"
_TIMEOUT = 2.0
_LONG_POLL = 30
"""Seconds that the server may hold a request; a connection that died unseen is noticed that soon."""
_NOTICE = timedelta(seconds=30)
"""Between the notice and the end of the machine ("Spot VMs", preemption process)."""
_PAUSE = 1.0


class GceInstanceSide:
    """The `InstanceSide` of one machine.

    Args:
        environ: ``GCE_METADATA_HOST`` (``host`` or ``host:port``) names another metadata server, as Google's own
            libraries have it.
    """

    notice_interval = 0.2
    """Seconds: a look costs nothing, and the guest is told to shut down within the same second as the notice."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, now: Callable[[], datetime] | None = None) -> None:
        host = environ.get("GCE_METADATA_HOST") or _HOST
        self._base = f"http://{host}/computeMetadata/v1/instance/"
        # The machine's own network, whatever proxy the environment names for the world outside.
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
        """Let the watching thread end; a request that is under way is not waited for."""
        self._closed.set()

    def _watch(self) -> None:
        etag = ""
        while not self._closed.is_set() and self._notice is None:
            started = time.monotonic()
            # The first answer comes at once; each later one with a change since the answer that had this tag.
            query = f"?wait_for_change=true&timeout_sec={_LONG_POLL}&last_etag={etag}" if etag else ""
            try:
                value, tag = self._ask(f"preempted{query}", timeout=_LONG_POLL + 10.0 if etag else _TIMEOUT)
            except ProviderError:
                etag = ""
                self._closed.wait(_PAUSE)
                continue
            if value.upper() == "TRUE":
                self._notice = TerminationNotice(at=self._now() + _NOTICE, reason="preempted by Compute Engine")
                return
            if not tag or (etag and time.monotonic() - started < _PAUSE):
                self._closed.wait(_PAUSE)  # a server that does not hold requests is not asked without end
            etag = tag

    def _get(self, path: str) -> str:
        return self._ask(path, timeout=_TIMEOUT)[0]

    def _ask(self, path: str, *, timeout: float) -> tuple[str, str]:
        """A value, and the tag of its state."""
        request = urllib.request.Request(self._base + path, headers={"Metadata-Flavor": "Google"})
        try:
            with self._opener.open(request, timeout=timeout) as response:
                if response.headers.get("Metadata-Flavor") != "Google":
                    raise ProviderError("what answers at the metadata address is not Google's server", transient=True)
                return str(response.read().decode().strip()), str(response.headers.get("ETag") or "")
        except urllib.error.HTTPError as error:
            error.close()
            raise ProviderError(f"the metadata server answered {error.code}", transient=True) from error
        except (OSError, HTTPException, ValueError) as error:
            raise ProviderError(
                f"the metadata server cannot be reached: {type(error).__name__}", transient=True
            ) from error
