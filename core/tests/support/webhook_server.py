"""A receiver of webhooks on loopback, which can be made to refuse."""

from __future__ import annotations

import http.server
import json
import threading
from collections import deque
from typing import Any

__all__ = ["SECRET", "WebhookServer"]

SECRET = "T0SECRET/B0SECRET/xoxSECRETxox"


class WebhookServer:
    """Keeps what it took; used as a context manager.

    Args:
        answers: Status codes (with a Retry-After, where it is a pair) of the first requests; then all is well.
    """

    def __init__(self, answers: tuple[int | tuple[int, int], ...] = ()) -> None:
        self.answers = deque(answers)
        self.asked = 0
        """How many requests came."""
        self.taken: list[Any] = []
        """JSON objects of the requests that were answered with 200."""
        self.hold = threading.Event()
        """While it is clear, no request is answered."""
        self.hold.set()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked += 1
                server.hold.wait(30)
                answer = server.answers.popleft() if server.answers else 200
                code, after = answer if isinstance(answer, tuple) else (answer, None)
                if code == 200:
                    assert self.headers["Content-Type"].startswith("application/json")
                    server.taken.append(json.loads(body))
                self.send_response(code)
                if after is not None:
                    self.send_header("Retry-After", str(after))
                if 300 <= code < 400:
                    self.send_header("Location", server.address)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Be silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/services/{SECRET}"

    @property
    def texts(self) -> list[str]:
        """Texts of the messages."""
        return [each["text"] for each in self.taken]

    def __enter__(self) -> WebhookServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
