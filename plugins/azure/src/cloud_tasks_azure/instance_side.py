"""Worker side on an Azure VM: identity and termination notice from the metadata service.

Uses the standard library only. A thread polls scheduled events: the first request enables them and may take two minutes
("Scheduled Events for Linux VMs"). When the worker has released its tasks and sent its events, it approves the
eviction, so that Azure need not wait until the notice period ends.

Invariants, each with a test:

1. `termination_notice` never waits for the network.
2. A notice is kept once received; a failed request or an event of another instance is not a notice.
3. An identity is cached only if the service returned it.
4. An event is approved once, when the worker closes, and only if one was received.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["AzureInstanceSide", "open_instance"]

_INSTANCE = "/metadata/instance/compute?api-version=2021-02-01"
_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
_TIMEOUT = 2.0
_FIRST_TIMEOUT = 130.0
"""Seconds, for the request that enables scheduled events."""
_PAUSE = 3.0
"""Seconds between two polls: an eviction is announced 30 s in advance."""

_TERMINATIONS: Mapping[str, str] = {
    "Preempt": "evicted by Azure",
    "Terminate": "being deleted",
    # Processes do not survive a redeployment.
    "Redeploy": "being moved to other hardware by Azure",
    "Reboot": "being restarted by Azure",
}
"""Reason by event type; ``Freeze``, a pause of seconds, is ignored."""


class AzureInstanceSide:
    """`InstanceSide` of an Azure VM.

    Args:
        settings: ``metadata_url`` is the address of the metadata service.
        pause: Seconds between two polls for scheduled events.
    """

    def __init__(self, settings: AzureSettings, *, pause: float = _PAUSE) -> None:
        self._base = settings.metadata_url.rstrip("/")
        # The metadata service is link-local: a proxy of the environment does not apply.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._pause = pause
        self._identity: InstanceIdentity | None = None
        self._notice: TerminationNotice | None = None
        self._event_id = ""
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None

    def identity(self) -> InstanceIdentity:
        if self._identity is None:
            compute = self._call(_INSTANCE)
            if not isinstance(compute, dict) or not compute.get("name"):
                raise ProviderError("invalid response of the Azure metadata service", transient=True)
            location, number = str(compute.get("location") or ""), str(compute.get("zone") or "")
            self._identity = InstanceIdentity(
                instance_id=str(compute["name"]),
                zone=f"{location}-{number}" if number else location,
                instance_type=str(compute.get("vmSize") or ""),
            )
        return self._identity

    def termination_notice(self) -> TerminationNotice | None:
        with self._lock:
            if self._watcher is None and not self._closed.is_set():
                self._watcher = threading.Thread(target=self._watch, name="azure-events", daemon=True)
                self._watcher.start()
        return self._notice

    def close(self) -> None:
        """Approve the received event, if any, and stop the polling thread. Never raises."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        if self._event_id:
            self._approve(self._event_id)

    def _watch(self) -> None:
        timeout = _FIRST_TIMEOUT
        while not self._closed.is_set():
            try:
                events = self._call(_EVENTS, timeout=timeout)
                timeout = _TIMEOUT
                event = self._own_event(events)
            except Exception:  # whatever the answer: without this thread, no notice would arrive
                event = None
            if event is not None:
                self._event_id = str(event.get("EventId") or "")
                self._notice = TerminationNotice(
                    at=_time(event.get("NotBefore")), reason=_TERMINATIONS[str(event["EventType"])]
                )
                return
            self._closed.wait(self._pause)

    def _own_event(self, response: Any) -> Mapping[str, Any] | None:
        """Return the first event that terminates this instance. Raises `ProviderError` if its identity is unknown."""
        events = response.get("Events") if isinstance(response, dict) else None
        for event in events if isinstance(events, list) else []:
            if not isinstance(event, dict) or event.get("EventType") not in _TERMINATIONS:
                continue
            # VMs of one placement group receive each other's events.
            resources = event.get("Resources") or []
            if not resources or self.identity().instance_id in resources:
                return event
        return None

    def _approve(self, event_id: str) -> None:
        body = json.dumps({"StartRequests": [{"EventId": event_id}]}).encode()
        try:
            self._call(_EVENTS, body=body)
        except ProviderError:
            # Azure then evicts the VM when the notice period ends.
            return

    def _call(self, path: str, *, timeout: float = _TIMEOUT, body: bytes | None = None) -> Any:
        headers = {"Metadata": "true", **({"Content-Type": "application/json"} if body is not None else {})}
        request = urllib.request.Request(self._base + path, data=body, headers=headers)
        try:
            with self._opener.open(request, timeout=timeout) as response:
                content = response.read()
                return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            error.close()
            raise ProviderError(f"the metadata service answered {error.code}", transient=True) from error
        except (OSError, HTTPException, ValueError) as error:
            raise ProviderError(
                f"the metadata service cannot be reached: {type(error).__name__}", transient=True
            ) from error


def open_instance(settings: AzureSettings, context: InstanceContext) -> AzureInstanceSide:
    """Implement `ComputeBackend.open_instance`."""
    return AzureInstanceSide(settings)


def _time(text: object) -> datetime | None:
    """Return a time such as ``Mon, 19 Sep 2016 18:29:47 GMT``; None if empty, as for an event that has started."""
    try:
        return parsedate_to_datetime(str(text)).astimezone(UTC)
    except (TypeError, ValueError):
        return None
