"""Metadata server of one fake instance: its own loopback port, Google's required header, and requests that wait for a
change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from fake_server import Answer, FakeServer, Request

__all__ = ["MetadataServer"]

_FLAVOR = {"Metadata-Flavor": "Google"}
_MAX_WAIT = 300.0


class MetadataServer:
    """Server of ``/computeMetadata/v1/…`` for one instance.

    Args:
        values: Values by path below ``instance/``, or ``../project/…``.
        power_off: Called when the guest powers itself off.
    """

    def __init__(self, values: Mapping[str, str], *, power_off: Callable[[], None]) -> None:
        self._values = dict(values)
        self._version = 0
        self._changed = threading.Condition()
        self._closed = False
        self._power_off = power_off
        self._server = FakeServer()
        self._server.route("GET", r"/", lambda request: Answer(body="computeMetadata/\n", headers=_FLAVOR))
        self._server.route("GET", r"/computeMetadata/v1/(?P<path>.+?)/?", self._get)
        self._server.route("POST", r"/fake/power-off", self._handle_power_off)
        self._server.start()

    @property
    def host(self) -> str:
        """Value of ``GCE_METADATA_HOST``."""
        return f"127.0.0.1:{self._server.port}"

    def set(self, path: str, value: str) -> None:
        """Change a value and answer the requests that wait for it."""
        with self._changed:
            self._values[path] = value
            self._version += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.close()

    def _get(self, request: Request) -> Answer:
        if request.headers.get("metadata-flavor") != "Google":
            return Answer(status=403, body="Missing Metadata-Flavor:Google header.")
        if "x-forwarded-for" in request.headers:
            return Answer(status=403, body="Forwarded requests are not answered.")
        path = request.groups["path"]
        path = path.removeprefix("instance/") if path.startswith("instance/") else f"../{path}"
        with self._changed:
            if request.query.get("wait_for_change", "").lower() == "true":
                seen = request.query.get("last_etag", self._etag())
                wait = min(float(request.query.get("timeout_sec", _MAX_WAIT)), _MAX_WAIT)
                self._changed.wait_for(lambda: self._closed or self._etag() != seen, wait)
            if path not in self._values:
                return Answer(status=404, body="not found")
            return Answer(body=self._values[path], headers={**_FLAVOR, "ETag": self._etag()})

    def _etag(self) -> str:
        return f"{self._version:016x}"

    def _handle_power_off(self, request: Request) -> Answer:
        threading.Thread(target=self._power_off, daemon=True).start()
        return Answer(body="")
