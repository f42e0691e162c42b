"""Redirects of the URL of a task file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cloud_tasks.builtin import open_task_source
from cloud_tasks.errors import InputError

TASKS = b'[{"task_id": "a", "data": {}}]'
REDIRECTS: dict[str, str | None] = {
    "/relative.json": "/tasks.json",
    "/loop.json": "/loop.json?token=SECRET",
    "/ftp.json": "ftp://user:SECRET@files.example/tasks.json?token=SECRET",
    "/file.json": "file:///etc/hostname",
    "/closed.json": "http://user:SECRET@127.0.0.1:1/tasks.json?token=SECRET",
    "/missing.json": "/nowhere.json?token=SECRET",
    "/invalid.json": "http://[bad/x",
    "/empty.json": "",
    "/none.json": None,
    "/long.json": f"/{'x' * 3000}",
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body = TASKS if path == "/tasks.json" else b""
        self.send_response(302 if path in REDIRECTS else 200 if body else 404)
        if (target := REDIRECTS.get(path)) is not None:
            self.send_header("Location", target)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_url_that_is_redirected_is_read(address: str) -> None:
    with open_task_source(None, f"http://{address}/relative.json") as source:
        assert [task.task_id for task in source] == ["a"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("loop", "too many redirects (10)"),
        ("ftp", "redirected to ftp://files.example/tasks.json?token=***, which is not an HTTP address"),
        ("file", "redirected to file:///etc/hostname, which is not an HTTP address"),
        ("closed", "cannot connect to 127.0.0.1:1, after a redirect: "),
        ("missing", "HTTP 404 Not Found from http://{address}/nowhere.json?token=***, after a redirect"),
        ("nowhere", "HTTP 404 Not Found"),
        ("invalid", "which is not a valid address"),
        ("empty", "the answer of the server is empty"),
        ("none", "the answer of the server is empty"),
        ("long", "…, after a redirect"),
    ],
)
def test_url_whose_redirect_fails_is_one_line_without_secrets(address: str, name: str, problem: str) -> None:
    url = f"http://me:SECRET@{address}/{name}.json?token=SECRET"
    with pytest.raises(InputError) as failed, open_task_source(None, url) as source:
        list(source)
    text = str(failed.value)
    assert text.startswith(f"http://{address}/{name}.json?token=***: cannot read the file: ")
    assert problem.format(address=address) in text
    assert "\n" not in text
    assert len(text) < 500
    assert "SECRET" not in text
