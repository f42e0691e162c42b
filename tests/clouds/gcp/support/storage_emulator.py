"""Cloud Storage emulator `gcp-storage-emulator`, started in a separate process on a loopback port.

Not emulated: permissions, preconditions, retention, real speed.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_servers import free_port, program_of, serving
from fake_server import Answer, FakeServer, Request

__all__ = ["denied", "forwarded", "permissions", "recorded", "storage_emulator"]

_BUCKET = r"/storage/v1/b/[^/]+"
_METHODS = (
    ("GET", _BUCKET, "buckets.get"),
    ("GET", rf"{_BUCKET}/o", "objects.list"),
    ("GET", rf"(/download)?{_BUCKET}/o/[^/]+", "objects.get"),
    ("POST|PUT", rf"/(resumable/)?upload{_BUCKET}/o", "objects.create"),
    ("DELETE", rf"{_BUCKET}/o/[^/]+", "objects.delete"),
)
"""HTTP method, path, permission ("IAM permissions for JSON methods")."""


@contextmanager
def storage_emulator(bucket: str) -> Iterator[str]:
    """Yield the address of an emulator with one empty bucket; skip the test without an installation."""
    program, port = program_of("gcp-storage-emulator", what="the Cloud Storage emulator"), free_port()
    options = ["--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={bucket}"]
    with serving("the storage emulator", [program, "start", *options], port=port):
        yield f"http://127.0.0.1:{port}"


def denied(request: Request) -> Answer:
    """Return the refusal of access to a bucket itself."""
    name = next(name for _, pattern, name in _METHODS if re.fullmatch(pattern, request.path))
    message = f"worker@p.iam.gserviceaccount.com does not have storage.{name} access to the bucket."
    return Answer(status=403, body={"error": {"code": 403, "message": message}})


def forwarded(storage: str, request: Request) -> Answer:
    """Return the answer of the emulator at this address."""
    query = urllib.parse.urlencode(request.all_query, doseq=True)
    headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
    address = f"{storage}{urllib.parse.quote(request.path, safe='/%')}?{query}"
    body = request.body if request.method in ("POST", "PUT") else None
    call = urllib.request.Request(address, data=body, headers=headers, method=request.method)
    try:
        with urllib.request.urlopen(call, timeout=20) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "Location") if answer.headers[name]}
            return Answer(status=answer.status, body=answer.read(), headers=kept)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(status=error.code, body=error.read())


@contextmanager
def recorded(storage: str) -> Iterator[tuple[str, FakeServer]]:
    """Yield the address of a proxy of the emulator that denies access to the bucket itself, and its server."""
    with FakeServer().serving() as server:
        server.route("GET", _BUCKET, denied)
        server.route("*", ".*", lambda request: forwarded(storage, request))
        yield server.url, server


def permissions(server: FakeServer) -> dict[str, str]:
    """Return the permission that each recorded call requires, or an empty text for an unknown one, by call."""
    return {
        f"{method} {path}": next(
            (
                name
                for methods, pattern, name in _METHODS
                if re.fullmatch(methods, method) and re.fullmatch(pattern, path)
            ),
            "",
        )
        for method, path in server.calls
    }
