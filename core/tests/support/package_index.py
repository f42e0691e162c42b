"""A package index on this machine: the wheels of a folder, optionally only with a user name and a password."""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import attrs

__all__ = ["PackageIndex", "package_index"]


@attrs.define
class PackageIndex:
    """The addresses of a package index, and the paths that were requested."""

    host: str
    """Host, port and a path of its own: a cache may have another index that had this port."""
    login: str
    requests: list[str] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}/simple"

    @property
    def url_with_login(self) -> str:
        return f"http://{self.login}@{self.host}/simple"


@contextmanager
def package_index(folder: Path, *, login: str = "") -> Iterator[PackageIndex]:
    """Serve ``<folder>/*.whl`` by the simple API of package indexes.

    Args:
        login: ``user:password`` that requests must have; empty for none.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.requests.append(self.path)
            expected = f"Basic {base64.b64encode(login.encode()).decode()}"
            if login and self.headers.get("Authorization") != expected:
                self.answer(401, b"")
                return
            parts = unquote(self.path).strip("/").split("/")[1:]
            if parts[:1] == ["simple"] and len(parts) == 2:
                files = [file for file in sorted(folder.glob("*.whl")) if canonical(file.name) == parts[1]]
                lines = [f'<a href="../../files/{file.name}#sha256={digest(file)}">{file.name}</a>' for file in files]
                self.answer(200 if files else 404, "\n".join(lines).encode())
            elif parts[:1] == ["files"] and (folder / parts[1]).is_file():
                self.answer(200, (folder / parts[1]).read_bytes(), "application/octet-stream")
            else:
                self.answer(404, b"")

        def answer(self, status: int, content: bytes, kind: str = "text/html") -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index = PackageIndex(f"127.0.0.1:{server.server_port}/{uuid.uuid4().hex}", login)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def canonical(file_name: str) -> str:
    return file_name.partition("-")[0].replace("_", "-").lower()


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
