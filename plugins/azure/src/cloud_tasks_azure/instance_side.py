"""What a worker asks its Azure machine: who it is, and whether it is being taken away.

Asks the metadata service with the standard library alone. Scheduled events are watched in a thread: the first request
for them may take two minutes, for it switches them on ("Scheduled Events for Linux VMs"). When the worker is done, its
tasks released and its events sent, it approves the eviction: Azure need not wait out the notice.

Invariants, each with a test:

1. `termination_notice` never waits for the network.
2. A notice that was seen stays; an answer that failed is no notice; an event for another machine is none either.
3. An identity is remembered only when the service gave it.
4. An event is approved once, at the end, and only where one was seen.
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
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["AzureInstanceSide"]

_INSTANCE = "/metadata/instance/compute?api-version=2021-02-01"
_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
_TIMEOUT = 2.0
_FIRST_TIMEOUT = 130.0
"""For the request that switches scheduled events on."""
_PAUSE = 3.0
"""Seconds between two looks: an eviction is announced 30 s before it."""

_ENDINGS: Mapping[str, str] = {
    "Preempt": "evicted by Azure",
    "Terminate": "being deleted",
    # The machine comes back without what runs on it now.
    "Redeploy": "being moved to other hardware by Azure",
    "Reboot": "being restarted by Azure",
}
"""By event type; ``Freeze`` is a pause of seconds, and passes."""


class AzureInstanceSide:
    """The `InstanceSide` of one machine.

    Args:
        settings: ``metadata_url`` tells where the service is.
    """

    def __init__(self, settings: AzureSettings, *, pause: float = _PAUSE) -> None:
        self._base = settings.metadata_url.rstrip("/")
        # The machine's own network, whatever proxy the environment names for the world outside.
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
            told = self._ask(_INSTANCE)
            if not isinstance(told, dict) or not told.get("name"):
                raise ProviderError("what answers at the metadata address is not Azure's service", transient=True)
            location, number = str(told.get("location") or ""), str(told.get("zone") or "")
            self._identity = InstanceIdentity(
                instance_id=str(told["name"]),
                zone=f"{location}-{number}" if number else location,
                instance_type=str(told.get("vmSize") or ""),
            )
        return self._identity

    def termination_notice(self) -> TerminationNotice | None:
        with self._lock:
            if self._watcher is None and not self._closed.is_set():
                self._watcher = threading.Thread(target=self._watch, name="azure-events", daemon=True)
                self._watcher.start()
        return self._notice

    def close(self) -> None:
        """Approve the event that was seen, if any, and let the watching thread end. Raises nothing."""
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
                told = self._ask(_EVENTS, timeout=timeout)
                timeout = _TIMEOUT
                event = self._own_event(told)
            except ProviderError:
                event = None
            if event is not None:
                self._event_id = str(event.get("EventId") or "")
                self._notice = TerminationNotice(
                    at=_moment(event.get("NotBefore")), reason=_ENDINGS[str(event["EventType"])]
                )
                return
            self._closed.wait(self._pause)

    def _own_event(self, told: Any) -> Mapping[str, Any] | None:
        """The first event that ends this machine. Raises `ProviderError` where its name cannot be had."""
        events = told.get("Events") if isinstance(told, dict) else None
        for event in events if isinstance(events, list) else []:
            if not isinstance(event, dict) or event.get("EventType") not in _ENDINGS:
                continue
            # Machines of one placement group see each other's events.
            resources = event.get("Resources") or []
            if not resources or self.identity().instance_id in resources:
                return event
        return None

    def _approve(self, event_id: str) -> None:
        body = json.dumps({"StartRequests": [{"EventId": event_id}]}).encode()
        try:
            self._ask(_EVENTS, body=body)
        except ProviderError:
            # Then the machine is taken when the notice is over.
            return

    def _ask(self, path: str, *, timeout: float = _TIMEOUT, body: bytes | None = None) -> Any:
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


def _moment(text: object) -> datetime | None:
    """``Mon, 19 Sep 2016 18:29:47 GMT``; None where nothing was said, or it began already."""
    try:
        return parsedate_to_datetime(str(text)).astimezone(UTC)
    except (TypeError, ValueError):
        return None
