"""The server of the page.

Security invariants, each with a test:

1. Loopback only. The server listens on 127.0.0.1, without an option for other addresses; remote access needs a tunnel
   (``ssh -L``).
2. Secret token. Every URL starts with a random token of 256 bits, created at each start and compared in constant time.
   Without it every path gets the same 404 response. The token is in no log and no referrer, and the browser gets it in
   a file that only the user can read, not on its command line.
3. Host header. A request whose Host header does not name this machine gets a 421 response, with or without the token
   (DNS rebinding).
4. Read-only. Only GET and HEAD are answered, databases are opened with ``query_only``, and no path is built from a
   request. (SQLite itself may merge the log left by a killed controller into its database; the content is unchanged.)
5. No secrets. The job's configuration, the environment and the file system are never shown. Data, output and exceptions
   of tasks are shown.
6. No script injection. The Content-Security-Policy allows only the files of this page, no inline script or style, no
   other host and no embedding frame, and Trusted Types prevent scripts from creating markup from text.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import math
import re
import secrets
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError
from cloud_tasks_dashboard.connection_limits import LimitedProtocol
from cloud_tasks_dashboard.facts import job_facts, timeline_facts
from cloud_tasks_dashboard.jobs import Jobs
from cloud_tasks_dashboard.task_table import TaskFilter, read_failure, read_page, read_task

__all__ = ["ADDRESS", "HEADERS", "Dashboard", "listen", "make_app", "make_token"]

ADDRESS = "127.0.0.1"

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every response."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def make_token() -> str:
    """Return a random token of 256 bits."""
    return secrets.token_urlsafe(32)


class _AccessControl:
    """Middleware that checks Host header, token and method, and removes the token from the path."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
                return
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = [*message.get("headers", ())]
                known += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": known}
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        rest = scope["path"][1 + len(self._token) :]
        await self._app({**scope, "path": rest or "/", "raw_path": None}, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        if not _names_this_machine(Headers(scope=scope).get("host", "")):
            return PlainTextResponse("This page is available on this machine only.\n", status_code=421)
        token = scope["path"].lstrip("/").partition("/")[0].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(token, self._token):
            return PlainTextResponse(
                "Not found. Open the complete URL that `cloud-tasks dashboard` printed.\n",
                status_code=404,
            )
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse(
                "Read-only: only GET and HEAD are supported.\n", status_code=405, headers={"allow": "GET, HEAD"}
            )
        return None


_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9.-]+))(?::(?P<port>[0-9]{1,5}))?")


def _names_this_machine(host: str) -> bool:
    """Return whether a Host header is ``localhost`` or a loopback address, with or without any port."""
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65535:
        return False
    if found["name"] is not None and found["name"].lower() == "localhost":
        return True
    try:
        address = ipaddress.IPv4Address(found["name"]) if found["v6"] is None else ipaddress.IPv6Address(found["v6"])
    except ValueError:
        return False
    return address.is_loopback


def make_app(jobs: Jobs, token: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> ASGIApp:
    """Return the application.

    Args:
        token: First part of the path of every request.
        clock: Current time, UTC.
    """

    def show_jobs(request: Request) -> Response:
        found = jobs.listing()
        return _json({"now": clock().timestamp(), "folder": jobs.folder.resolve().name, "jobs": found})

    def show_job(request: Request) -> Response:
        return _json(job_facts(jobs.watch(request.path_params["name"]), clock()))

    def show_timeline(request: Request) -> Response:
        return _json(timeline_facts(jobs.watch(request.path_params["name"]), clock()))

    def show_tasks(request: Request) -> Response:
        query = request.query_params
        names = ("status", "text", "outcome", "reason")
        task_filter = TaskFilter(**{name: query[name] for name in names if name in query})
        page = read_page(
            jobs.watch(request.path_params["name"]).path,
            task_filter,
            after=_number(query, "after", 0),
            rows=_number(query, "rows", 50),
        )
        return _json({"rows": page.rows, "after": page.after, "scanned": page.scanned, "total": page.total})

    def show_task(request: Request) -> Response:
        return _json(read_task(jobs.watch(request.path_params["name"]).path, request.query_params.get("id", "")))

    def show_failure(request: Request) -> Response:
        path = jobs.watch(request.path_params["name"]).path
        return _json(read_failure(path, _number(request.query_params, "event", 0)))

    routes = [
        Route("/api/jobs", _in_thread(show_jobs)),
        Route("/api/job/{name}", _in_thread(show_job)),
        Route("/api/job/{name}/timeline", _in_thread(show_timeline)),
        Route("/api/job/{name}/tasks", _in_thread(show_tasks)),
        Route("/api/job/{name}/task", _in_thread(show_task)),
        Route("/api/job/{name}/failure", _in_thread(show_failure)),
        *_page_routes(),
    ]
    handlers: Mapping[Any, Any] = {CloudTasksError: _error_response, HTTPException: _not_found}
    return _AccessControl(Starlette(routes=routes, exception_handlers=handlers), token)


def _in_thread(show: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that runs in a thread; the end of the server does not wait for a read of a stalled disk."""

    async def endpoint(request: Request) -> Response:
        try:
            return await anyio.to_thread.run_sync(show, request, abandon_on_cancel=True)
        except asyncio.CancelledError:
            # Only the end of the server cancels a request.
            return PlainTextResponse("The dashboard has stopped.\n", status_code=503)

    return endpoint


def _page_routes() -> Iterator[Route]:
    """Yield a route per file of the page. Each file is read once; no other file is served."""
    for file in files("cloud_tasks_dashboard").joinpath("page").iterdir():
        kind = _TYPES.get(file.name[file.name.rfind(".") :])
        if kind is None:
            continue
        content = file.read_bytes()

        def show(request: Request, content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind)

        yield Route("/" if file.name == "index.html" else f"/{file.name}", show)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InputError(f'{name}: expected a number, got "{text[:40]}"')
    return int(text)


def _error_response(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, NotFoundError) else 400 if isinstance(error, InputError) else 503
    return _json({"error": str(error)}, status=status)


def _not_found(request: Request, error: Exception) -> Response:
    return _json({"error": "not found"}, status=getattr(error, "status_code", 404))


def _json(value: Any, *, status: int = 200) -> Response:
    # In ASCII, since text of tasks may contain lone surrogates, which cannot be encoded.
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False)
    return Response(text, status_code=status, media_type="application/json")


def _finite(value: Any) -> Any:
    """Return the value with None in place of numbers that JSON cannot represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """Yield a listening socket on `ADDRESS`.

    Args:
        port: Port number; 0 for any free port.

    Raises:
        InputError: The port is in use or not permitted.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                f"port {port} is not available: {error.strerror}", where="--port", hint="use --port 0 for any free port"
            ) from error
        listener.listen(128)
        yield listener


class Dashboard(uvicorn.Server):
    """A server for an application on a socket; `run` serves until `stop` or a signal."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                lifespan="off",
                ws="none",
                http=LimitedProtocol,
                timeout_graceful_shutdown=2,
            )
        )
        # Access log lines would contain the token.
        logging.getLogger("uvicorn.access").disabled = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop the server on a signal without raising it again, so that cleanup code runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Stop `run`. Thread-safe."""
        self.should_exit = True
