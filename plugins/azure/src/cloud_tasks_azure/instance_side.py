"""Worker side on an Azure VM: identity and termination notice from the metadata service.

A thread polls scheduled events: the first request enables them and may take two minutes
("Scheduled Events for Linux VMs"). When the worker has released its tasks and sent its events, it approves the
eviction, so that Azure need not wait until the notice period ends. A restart is never approved: the instance then
restarts at once, before it could delete itself, and costs without a worker.

Invariants, each with a test:

1. An event of another instance is not a notice.
2. An eviction or deletion is approved once, when the worker closes, and only if one was received.
3. A restart that is announced days ahead is a notice some minutes before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.plugin import InstanceContext
from cloud_tasks.plugin.kit import MetadataService, PolledInstanceSide, json_object, notice_time
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["AzureInstanceSide"]

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

_APPROVED = ("Preempt", "Terminate")
_RESTART_NOTICE = timedelta(minutes=15)
"""Notice of a restart: time to finish tasks, and for the instance to be deleted before."""


class AzureInstanceSide(PolledInstanceSide):
    """`InstanceSide` of an Azure VM.

    Args:
        settings: ``metadata_url`` is the address of the metadata service.
        pause: Seconds between two polls for scheduled events.
    """

    def __init__(
        self, settings: AzureSettings, context: InstanceContext | None = None, *, pause: float = _PAUSE
    ) -> None:
        super().__init__(pause=pause)
        self._service = MetadataService(settings.metadata_url, headers={"Metadata": "true"})
        self._timeout = _FIRST_TIMEOUT
        self._event_id = ""

    def _read_identity(self) -> InstanceIdentity:
        compute = json_object(self._service.request(_INSTANCE))
        if not compute.get("name"):
            raise ProviderError("invalid response of the Azure metadata service", transient=True)
        location, number = str(compute.get("location") or ""), str(compute.get("zone") or "")
        return InstanceIdentity(
            instance_id=str(compute["name"]),
            zone=f"{location}-{number}" if number else location,
            instance_type=str(compute.get("vmSize") or ""),
        )

    def _read_notice(self) -> TerminationNotice | None:
        response = json_object(self._service.request(_EVENTS, timeout=self._timeout))
        self._timeout = _TIMEOUT
        event = self._own_event(response)
        if event is None:
            return None
        kind = str(event["EventType"])
        # An event that has started has no time.
        at = notice_time(event.get("NotBefore"))
        if kind in _APPROVED:
            self._event_id = str(event.get("EventId") or "")
        elif at is not None and at - datetime.now(UTC) > _RESTART_NOTICE:
            return None
        return TerminationNotice(at=at, reason=_TERMINATIONS[kind])

    def close(self) -> None:
        """Approve the received event, if any, and stop the polling thread. Never raises."""
        with self._lock:
            if self._closed.is_set():
                return
            super().close()
        if self._event_id:
            self._approve(self._event_id)

    def _own_event(self, response: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the event that terminates this instance first. Raises `ProviderError` if its identity is unknown."""
        events = response.get("Events")
        found = [each for each in events if isinstance(each, dict)] if isinstance(events, list) else []
        # An eviction comes within a minute, a restart in days.
        for event in sorted(found, key=lambda each: str(each.get("EventType")) not in _APPROVED):
            if str(event.get("EventType")) not in _TERMINATIONS:
                continue
            # VMs of one placement group receive each other's events.
            resources = event.get("Resources") or []
            if not resources or self.identity().instance_id in resources:
                return event
        return None

    def _approve(self, event_id: str) -> None:
        body = json.dumps({"StartRequests": [{"EventId": event_id}]}).encode()
        try:
            self._service.request(_EVENTS, method="POST", headers={"Content-Type": "application/json"}, body=body)
        except ProviderError:
            # Azure then evicts the VM when the notice period ends.
            return
