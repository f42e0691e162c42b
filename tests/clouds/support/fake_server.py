"""HTTP server of a fake: small, threaded, on loopback, with routes and injected faults.

A fake is a class with its own state; it registers one handler per method and path and responds with JSON, text or
bytes. Faults occur before the effect (the handler is not called) or after it (the handler runs, and its response is
lost).

Invariants, each with a test in `tests/clouds/test_support.py`:

1. The server listens on 127.0.0.1 only, on a port chosen by the system.
2. A fault after the effect keeps the effect.
"""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

__all__ = ["Answer", "FakeServer", "Fault", "Request"]


@attrs.frozen(kw_only=True)
class Request:
    """Request passed to a handler."""

    method: str
    path: str
    groups: Mapping[str, str]
    """Matches of the named groups of the route's pattern, unquoted."""
    query: Mapping[str, str]
    """Last value of each parameter."""
    all_query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """Headers by lower-case name."""
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON; an empty body is an empty object."""
        return json.loads(self.body or b"{}")


@attrs.frozen(kw_only=True)
class Answer:
    """Response; ``body`` is bytes, text or JSON data."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json"


@attrs.frozen(kw_only=True)
class Fault:
    """Share of the calls that fail.

    A failing call gets ``status``; None closes the connection without a response.
    """

    share: float
    after_effect: float = 0.5
    """Share of the failing calls whose effect takes place."""
    status: int | None = 503
    body: Any = attrs.field(factory=dict)
    methods: frozenset[str] = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


Handler = Callable[[Request], Any]
"""Handler of a route; returns an `Answer`, or the body of one."""


class FakeServer:
    """HTTP server of one fake.

    Args:
        seed: Seed of the faults.
    """

    def __init__(self, *, seed: int = 1) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.fault: Fault | None = None
        self.calls: list[tuple[str, str]] = []
        """Method and path of every call, in order of arrival."""
        self.struck = 0
        """Number of calls that failed by a fault."""
        self._server = _Server(("127.0.0.1", 0), _handler_class(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def route(self, method: str, pattern: str, handler: Handler) -> None:
        """Register a handler; ``pattern`` is a regular expression for the whole path. ``*`` is any method."""
        self._routes.append((method, re.compile(pattern), handler))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop serving; may be called again."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    @contextmanager
    def serving(self) -> Iterator[FakeServer]:
        self.start()
        try:
            yield self
        finally:
            self.close()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Handle a call; return None to close the connection."""
        parts = urllib.parse.urlsplit(target)
        with self._lock:
            self.calls.append((method, parts.path))
            fault = self.fault
            struck = fault is not None and method in fault.methods and self._random.random() < fault.share
            after = struck and fault is not None and self._random.random() < fault.after_effect
            self.struck += struck
        answer = None if struck and not after else self._carry_out(method, parts, headers, body)
        if struck and fault is not None:
            return None if fault.status is None else Answer(status=fault.status, body=fault.body)
        return answer

    def _carry_out(
        self, method: str, parts: urllib.parse.SplitResult, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        for known, pattern, handler in self._routes:
            match = pattern.fullmatch(parts.path) if known in ("*", method) else None
            if match is None:
                continue
            request = Request(
                method=method,
                path=parts.path,
                groups={name: urllib.parse.unquote(value or "") for name, value in match.groupdict().items()},
                query={name: values[-1] for name, values in query.items()},
                all_query=query,
                headers=headers,
                body=body,
            )
            answer = handler(request)
            return answer if isinstance(answer, Answer) else Answer(body=answer)
        return Answer(status=404, body={"error": {"code": 404, "message": f"no route: {method} {parts.path}"}})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def _handler_class(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_call(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                answer = server.answer(self.command, self.path, headers, body)
            except Exception as error:
                answer = Answer(status=500, body={"error": {"code": 500, "message": f"fake failed: {error!r}"}})
            if answer is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            content, kind = answer.encoded()
            self.send_response(answer.status)
            names = {name.lower() for name in answer.headers}
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "content-type" not in names:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_call  # noqa: N815 - names required by http.server

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler
