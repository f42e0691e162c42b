"""A running dashboard on a local port, and a client for arbitrary requests."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from cloud_tasks_dashboard.jobs import Jobs
from cloud_tasks_dashboard.server import ADDRESS, Dashboard, listen, make_app, make_token

__all__ = ["Answer", "Served", "serve"]


@attrs.frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Served:
    """A running dashboard."""

    port: int
    token: str

    @property
    def address(self) -> str:
        return f"http://{ADDRESS}:{self.port}/{self.token}/"

    def ask(self, path: str, *, token: str | None = None, host: str | None = None, method: str = "GET") -> Answer:
        """Send one request.

        Args:
            path: Path below the token, or below the root if ``token`` is empty.
            token: Token to send instead of the correct one.
            host: Host header; None for the one a browser sends.
        """
        token = self.token if token is None else token
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=20)
        try:
            connection.putrequest(method, f"/{token}/{path}" if token else f"/{path}", skip_host=True)
            connection.putheader("Host", f"{ADDRESS}:{self.port}" if host is None else host)
            connection.endheaders()
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the JSON content of a path that must exist."""
        answer = self.ask(path)
        assert answer.status == 200, answer.body
        return answer.json()


@contextlib.contextmanager
def serve(
    folder: Path, database: Path | None = None, *, clock: Callable[[], datetime] | None = None
) -> Iterator[Served]:
    """Run a dashboard for a folder in a thread."""
    token = make_token()
    jobs = Jobs(folder, database)
    with listen(0) as listener:
        app = make_app(jobs, token) if clock is None else make_app(jobs, token, clock=clock)
        server = Dashboard(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until = time.monotonic() + 20
            while not server.started:
                assert time.monotonic() < until, "the server did not start"
                assert thread.is_alive(), "the server stopped at once"
                time.sleep(0.01)
            yield Served(listener.getsockname()[1], token)
        finally:
            server.stop()
            thread.join(20)
            assert not thread.is_alive(), "the server did not stop"
