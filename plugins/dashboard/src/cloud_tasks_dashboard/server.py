"""The server of the page.

What it promises about security; each with a test:

1. Loopback only. It listens on 127.0.0.1 and there is no option for anything else; who sits elsewhere uses a tunnel of
   their own (``ssh -L``).
2. A token. Every address begins with a random token of 256 bits, made anew at each start; it is compared in constant
   time, and without it nothing is answered but 404, the same for every path. No log has it, no referrer passes it on,
   and the browser gets it in a file that only the user can read, not on its command line.
3. The Host header must name this machine, or the answer is 421: a page of somebody else whose name was made to point
   here (DNS rebinding) learns nothing, not even with the token.
4. Read-only. Nothing that changes anything is offered: only GET and HEAD are answered, the databases are opened with
   ``query_only``, and no path is made of what a request says. (SQLite itself may move the log that a killed controller
   left behind into its database: the content stays the same.) To change something, use the command line.
5. No secrets. The job's configuration, the environment and the file system are never shown. What tasks themselves hold,
   print or raise is shown: it is what the page is for.
6. What tasks say stays text. The Content-Security-Policy allows nothing but the files of this page, no inline script or
   style, no other host and no frame around it, and Trusted Types take from scripts the means to make markup from text.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import math
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError
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
"""With every answer."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def make_token() -> str:
    """A token that nobody guesses: 256 bits."""
    return secrets.token_urlsafe(32)


class _Gate:
    """Lets through what comes from this machine's browser with the token, and takes the token off the path."""

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
            return PlainTextResponse("This page is for the browser of this machine only.\n", status_code=421)
        said = scope["path"].lstrip("/").partition("/")[0].encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(said, self._token):
            return PlainTextResponse(
                "There is nothing here. Open the address that `cloud-tasks dashboard` printed, in full.\n",
                status_code=404,
            )
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("This page only shows.\n", status_code=405, headers={"allow": "GET, HEAD"})
        return None


def _names_this_machine(host: str) -> bool:
    """Whether a Host header is ``localhost`` or a loopback address, with any port or none: a tunnel has its own."""
    name, bracket, _ = host.removeprefix("[").partition("]") if host.startswith("[") else host.partition(":")
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback and (address.version == 4 or bracket == "]")


def make_app(jobs: Jobs, token: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> ASGIApp:
    """The whole application.

    Args:
        token: What the path of every request begins with.
        clock: The time, UTC.
    """

    def show_jobs(request: Request) -> Response:
        found = jobs.listing()
        return _json({"now": clock().timestamp(), "folder": jobs.folder.resolve().name, "jobs": found})

    def show_job(request: Request) -> Response:
        return _json(job_facts(jobs.watch(request.path_params["name"]), clock()))

    def show_timeline(request: Request) -> Response:
        return _json(timeline_facts(jobs.watch(request.path_params["name"]), clock()))

    def show_tasks(request: Request) -> Response:
        asked = request.query_params
        names = ("status", "text", "outcome", "reason")
        wanted = TaskFilter(**{name: asked[name] for name in names if name in asked})
        page = read_page(
            jobs.watch(request.path_params["name"]).path,
            wanted,
            after=_number(asked, "after", 0),
            rows=_number(asked, "rows", 50),
        )
        return _json({"rows": page.rows, "after": page.after, "looked_at": page.looked_at, "total": page.total})

    def show_task(request: Request) -> Response:
        return _json(read_task(jobs.watch(request.path_params["name"]).path, request.query_params.get("id", "")))

    def show_failure(request: Request) -> Response:
        path = jobs.watch(request.path_params["name"]).path
        return _json(read_failure(path, _number(request.query_params, "event", 0)))

    routes = [
        Route("/api/jobs", show_jobs),
        Route("/api/job/{name}", show_job),
        Route("/api/job/{name}/timeline", show_timeline),
        Route("/api/job/{name}/tasks", show_tasks),
        Route("/api/job/{name}/task", show_task),
        Route("/api/job/{name}/failure", show_failure),
        *_page_routes(),
    ]
    handlers: Mapping[Any, Any] = {CloudTasksError: _tell, HTTPException: _nothing_here}
    return _Gate(Starlette(routes=routes, exception_handlers=handlers), token)


def _page_routes() -> Iterator[Route]:
    """A route for each file of the page; they are read once, and no other is ever read."""
    for file in files("cloud_tasks_dashboard").joinpath("page").iterdir():
        kind = _TYPES.get(file.name[file.name.rfind(".") :])
        if kind is None:
            continue
        content = file.read_bytes()

        def show(request: Request, content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind)

        yield Route("/" if file.name == "index.html" else f"/{file.name}", show)


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InputError(f'{name} is not a number: "{text[:40]}"')
    return int(text)


def _tell(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, NotFoundError) else 400 if isinstance(error, InputError) else 503
    return _json({"error": str(error)}, status=status)


def _nothing_here(request: Request, error: Exception) -> Response:
    return _json({"error": "there is nothing at this address"}, status=getattr(error, "status_code", 404))


def _json(value: Any, *, status: int = 200) -> Response:
    # In ASCII: what tasks say may hold half a character, which no encoding takes.
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False)
    return Response(text, status_code=status, media_type="application/json")


def _finite(value: Any) -> Any:
    """The same without the numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """A socket on `ADDRESS` that listens.

    Args:
        port: 0: one that is free.

    Raises:
        InputError: The port is taken, or not for this user.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                f"port {port} cannot be had: {error.strerror}", where="--port", hint="--port 0 takes one that is free"
            ) from error
        listener.listen(128)
        yield listener


class Dashboard(uvicorn.Server):
    """The server of an application on a socket; `run` serves until `stop`, or until a signal ends it."""

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
                timeout_graceful_shutdown=2,
            )
        )
        # Its lines would hold the token, and it speaks to any handler that is there.
        logging.getLogger("uvicorn.access").disabled = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have a signal end the server, and nothing more: what comes after it shall be done."""
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
        """Have `run` end; may be called from any thread."""
        self.should_exit = True
