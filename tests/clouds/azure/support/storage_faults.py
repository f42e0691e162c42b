"""Proxy of an azurite service that injects faults, before or after the effect of a call.

As in Azure, the name of a deleted queue is refused for half a minute or longer ("Delete Queue").
"""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.parse
from collections.abc import Callable

from fake_server import Answer, FakeServer, Request

__all__ = ["StorageFaults"]

_QUEUE_PARTS = 2
"""Slashes in the path of a queue: ``/ACCOUNT/QUEUE``."""


class StorageFaults:
    """A proxy of one service.

    Args:
        target: URL of the service, with the account.
    """

    def __init__(self, target: str) -> None:
        self.server = FakeServer()
        parts = urllib.parse.urlsplit(target)
        self._host, self._port = parts.hostname or "", parts.port
        self.endpoint = f"{self.server.url}{parts.path}"
        self.deletion_seconds = 30.0
        """Time for which the name of a deleted queue is refused."""
        self._deleted: dict[str, float] = {}
        """Times of deletions, by path."""
        self._rules: list[Callable[[str, str], tuple[int, str, bool] | None]] = []
        self._lock = threading.Lock()
        self.server.route("*", ".*", self._answer)

    def fail(self, method: str, path: str, code: str, *, status: int, times: int = 1, after: bool = False) -> None:
        """Fail the next calls whose path ends with ``path``; with ``after``, after their effect."""
        left = [times]

        def rule(called: str, found: str) -> tuple[int, str, bool] | None:
            if called != method or not re.search(f"{path}$", found) or not left[0]:
                return None
            left[0] -= 1
            return status, code, after

        with self._lock:
            self._rules.append(rule)

    def calls(self, method: str, path: str) -> int:
        """Return the number of calls whose path ends with ``path``."""
        return sum(called == method and bool(re.search(f"{path}$", found)) for called, found in self.server.calls)

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            fault = next(filter(None, (rule(request.method, request.path) for rule in self._rules)), None)
        if fault is None and self._is_being_deleted(request):
            fault = 409, "QueueBeingDeleted", False
        if fault is None:
            answer = self._forward(request)
            if request.method == "DELETE" and answer.status == 204 and request.path.count("/") == _QUEUE_PARTS:
                self._deleted[request.path] = time.monotonic()
            return answer
        status, code, after = fault
        if after:
            self._forward(request)
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>injected</Message></Error>'
        return Answer(status=status, body=body, headers={"Content-Type": "application/xml", "x-ms-error-code": code})

    def _is_being_deleted(self, request: Request) -> bool:
        deleted = self._deleted.get(request.path) if request.method == "PUT" else None
        return deleted is not None and time.monotonic() - deleted < self.deletion_seconds

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        try:
            query = urllib.parse.urlencode(request.all_query, doseq=True)
            target = f"{request.path}?{query}" if query else request.path
            headers = {name: value for name, value in request.headers.items() if name not in ("host", "connection")}
            connection.request(request.method, target, request.body, headers)
            answer = connection.getresponse()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "keep-alive")
            }
            return Answer(status=answer.status, body=answer.read(), headers=kept)
        finally:
            connection.close()
