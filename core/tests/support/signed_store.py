"""Store over HTTP with signed addresses, and the compute backend whose instances download from it.

Files are those of fsspec's ``memory:``, so that the controller's uploads arrive in it.
"""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import attrs
import fsspec

from cloud_tasks.plugin import Download, DownloadContext, StagingContext, setting
from cloud_tasks.testing import MemoryProvider, StagingSubject

__all__ = ["SignedStaging", "StoreSettings", "staging_subject"]

_FILES = fsspec.filesystem("memory")


@attrs.frozen(kw_only=True)
class StoreSettings:
    """Settings of the backend."""

    key: str = setting(help="Key that signs addresses", default="k3y", secret=True)


class SignedStaging:
    """The store, and what the backend says about downloads from it; the base of faulty ones."""

    schemes: tuple[str, ...] = ("memory",)
    is_public = False
    has_pages = False
    """Whether a missing file is answered with a page."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = store.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, target: str) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        given = dict(urllib.parse.parse_qsl(query))
        end = given.get("end", "0")
        if not self.is_public and given.get("signature") != self.signature(path, end):
            return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        if not self.is_public and self.now.timestamp() > float(end):
            return 403, b"<Error><Code>Expired</Code></Error>"
        name = urllib.parse.unquote(path)
        if not _FILES.exists(name):
            return (200, b"<html></html>") if self.has_pages else (404, b"")
        return 200, bytes(_FILES.cat_file(name))

    def signature(self, path: str, end: str) -> str:
        return hmac.digest(b"k3y", f"{path}?{end}".encode(), hashlib.sha256).hex()

    def download(self, settings: StoreSettings, context: DownloadContext) -> Download:
        bucket, name = context.bucket_and_name("memory")
        return self.signed(f"/{bucket}/{urllib.parse.quote(name)}", self.now + context.valid_for)

    def signed(self, path: str, end: datetime, **fields: Any) -> Download:
        seconds = str(end.timestamp())
        query = urllib.parse.urlencode({"end": seconds, "signature": self.signature(path, seconds)})
        address = f"http://127.0.0.1:{self._server.server_port}{path}?{query}"
        return Download(**{"url": address, "expires_at": end, **fields})

    def options(self, settings: StoreSettings, context: StagingContext) -> Mapping[str, Any]:
        return {}

    def put(self, url: str, content: bytes) -> None:
        _FILES.pipe_file(url, content)

    def advance(self, duration: timedelta) -> None:
        self.now += duration


def staging_subject(kind: type[SignedStaging]) -> StagingSubject:
    """Return the subject of a contract, with a store of its own."""
    store = kind()
    backend = attrs.evolve(
        MemoryProvider().compute,
        settings=StoreSettings,
        download=store.download,
        staging_schemes=store.schemes,
        staging_options=store.options,
    )
    return StagingSubject(
        backend=backend,
        url=f"memory://bucket-{id(store)}/contract",
        put=store.put,
        settings=StoreSettings(),
        advance=store.advance,
    )
