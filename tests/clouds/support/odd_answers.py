"""Answers that no cloud gives, but a proxy, a login page or another program does; and a server that gives one."""

from __future__ import annotations

from fake_server import Answer, FakeServer

__all__ = ["STRANGE", "OddServer"]

STRANGE = {
    "list": b"[]",
    "list of objects": b'[{"error": "blocked"}]',
    "null": b"null",
    "number": b"7",
    "string": b'"blocked"',
    "web page": b"<!DOCTYPE html>\n<html><head></head><body><p>Sign in & accept<br></body></html>",
    "well-formed web page": b"<html><body>Sign in</body></html>",
    "text": b"Blocked by the administrator.",
    "cut JSON": b'{"items": [{"name": "a',
    "bytes": b"\xff\xfe\x00\x01",
}
"""Bodies by name, none of which is an answer to any call."""


class OddServer(FakeServer):
    """A server that answers every call with the same status and body."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.body = b""
        self.route("*", ".*", lambda request: Answer(status=self.status, body=self.body))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"
