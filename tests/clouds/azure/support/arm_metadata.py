"""Metadata service of one VM of the fake on a loopback port, with the header that Azure requires, and scheduled events
with their approval."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fake_server import Answer, FakeServer, Request

__all__ = ["MetadataServer"]


class MetadataServer:
    """Serves ``/metadata/…`` of one VM.

    Args:
        compute: Content of ``instance/compute``.
        power_off: Called when the guest powers itself off.
        approve: Called when the guest approves an event.
    """

    def __init__(
        self, compute: Mapping[str, str], *, power_off: Callable[[], None], approve: Callable[[], None]
    ) -> None:
        self._compute = dict(compute)
        self._events: list[dict[str, Any]] = []
        self._incarnation = 1
        self._lock = threading.Lock()
        self._power_off = power_off
        self._approve = approve
        self.approved: list[str] = []
        self.polls = 0
        """Number of requests for scheduled events."""
        self.broken = 0
        """Number of next responses that are errors."""
        self.token = "fake-token"
        """Token of the identity."""
        self.identities: set[str] | None = None
        """Resource ids of the VM's identities; None: any."""
        self._server = FakeServer()
        self._server.route("GET", r"/metadata/instance/compute", lambda request: self._instance(request))
        self._server.route("GET", r"/metadata/instance/compute/(?P<key>\w+)", lambda request: self._instance(request))
        self._server.route("GET", r"/metadata/scheduledevents", self._scheduled)
        self._server.route("POST", r"/metadata/scheduledevents", self._start)
        self._server.route("GET", r"/metadata/identity/oauth2/token", self._token)
        self._server.route("POST", r"/fake/power-off", self._handle_power_off)
        self._server.start()

    @property
    def url(self) -> str:
        """Value of ``metadata_url``."""
        return self._server.url

    def announce(self, kind: str = "Preempt", *, seconds: float = 30.0) -> str:
        """Schedule an event and return its id."""
        not_before = datetime.now(UTC) + timedelta(seconds=seconds)
        event = {
            "EventId": str(uuid.uuid4()).upper(),
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": [self._compute["name"]],
            "EventStatus": "Scheduled",
            "NotBefore": not_before.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "Description": "Spot VM eviction",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }
        with self._lock:
            self._events.append(event)
            self._incarnation += 1
        return str(event["EventId"])

    def close(self) -> None:
        self._server.close()

    def _refused(self, request: Request) -> Answer | None:
        if self.broken > 0:
            self.broken -= 1
            return Answer(status=500, body={"error": "Internal error"})
        if request.headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in request.headers:
            return Answer(status=400, body={"error": "Bad request. Required metadata header not specified"})
        if "api-version" not in request.query:
            return Answer(status=400, body={"error": "Bad request. api-version was not specified in the request"})
        return None

    def _instance(self, request: Request) -> Any:
        refused = self._refused(request)
        if refused is not None:
            return refused
        key = request.groups.get("key")
        if key is None:
            return self._compute
        if key not in self._compute:
            return Answer(status=404, body={"error": "Not found"})
        return Answer(body=self._compute[key])

    def _scheduled(self, request: Request) -> Any:
        with self._lock:
            self.polls += 1
            events = {"DocumentIncarnation": self._incarnation, "Events": list(self._events)}
        return self._refused(request) or events

    def _start(self, request: Request) -> Answer:
        refused = self._refused(request)
        if refused is not None:
            return refused
        wanted = {str(each.get("EventId")) for each in request.json().get("StartRequests", [])}
        with self._lock:
            known = [event for event in self._events if event["EventId"] in wanted]
            for event in known:
                event["EventStatus"], event["NotBefore"] = "Started", ""
                self.approved.append(event["EventId"])
            self._incarnation += 1
        if not known:
            return Answer(status=400, body={"error": "Unknown event"})
        threading.Thread(target=self._approve, daemon=True).start()
        return Answer(body=b"")

    def _token(self, request: Request) -> Any:
        refused = self._refused(request)
        if refused is None and self.identities is not None and request.query.get("msi_res_id") not in self.identities:
            body = {"error": "invalid_request", "error_description": "Identity not found"}
            return Answer(status=400, body=body)
        token = {"access_token": self.token, "expires_in": "86400", "token_type": "Bearer"}
        return refused or {**token, "resource": request.query.get("resource", "")}

    def _handle_power_off(self, request: Request) -> Answer:
        threading.Thread(target=self._power_off, daemon=True).start()
        return Answer(body="")
