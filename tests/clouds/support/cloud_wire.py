"""The wire of a stand-in: a small threaded HTTP server on loopback, with routes and with faults.

A stand-in is a class with its own state; it registers one handler per method and path and answers with JSON, text or
bytes. Faults strike before the effect (the handler is not called) or after it (it is, and its answer is lost).

Invariants, each with a test in `tests/clouds/test_support.py`:

1. The server listens on 127.0.0.1 alone, on a port that the system chose.
2. A fault after the effect leaves the effect.
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

__all__ = ["Answer", "Fault", "Request", "Wire"]


@attrs.frozen(kw_only=True)
class Request:
    """One call, as a handler sees it."""

    method: str
    path: str
    groups: Mapping[str, str]
    """What the named groups of the route's pattern matched, unquoted."""
    query: Mapping[str, str]
    """The last value of each parameter."""
    all_query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> Any:
        """The body as JSON; an empty one is an empty object."""
        return json.loads(self.body or b"{}")


@attrs.frozen(kw_only=True)
class Answer:
    """What is sent back. ``body`` is bytes, text, or anything that JSON can express."""

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
    """A share of the calls that goes wrong.

    A call that is struck is answered with ``status``; None cuts the connection without an answer.
    """

    share: float
    after_effect: float = 0.5
    """Of the calls that are struck, the share whose effect takes place all the same."""
    status: int | None = 503
    body: Any = attrs.field(factory=dict)
    methods: frozenset[str] = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


Handler = Callable[[Request], Any]
"""Returns an `Answer`, or the body of a plain one."""


class Wire:
    """The server of one stand-in.

    Args:
        seed: Of the faults.
    """

    def __init__(self, *, seed: int = 1) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.fault: Fault | None = None
        self.calls: list[tuple[str, str]] = []
        """Method and path of every call, in order of arrival."""
        self.struck = 0
        """How many calls met a fault."""
        self._server = _Server(("127.0.0.1", 0), _handler_class(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def route(self, method: str, pattern: str, handler: Handler) -> None:
        """Let ``handler`` answer; ``pattern`` is a regular expression for the whole path. ``*`` is any method."""
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
    def serving(self) -> Iterator[Wire]:
        self.start()
        try:
            yield self
        finally:
            self.close()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Carry a call out; None where the connection is to be cut."""
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


def _handler_class(wire: Wire) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_call(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                answer = wire.answer(self.command, self.path, headers, body)
            except Exception as error:
                answer = Answer(status=500, body={"error": {"code": 500, "message": f"stand-in failed: {error!r}"}})
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

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_call  # noqa: N815 - names that http.server asks for

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
