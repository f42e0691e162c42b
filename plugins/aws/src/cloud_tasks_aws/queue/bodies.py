"""Encoding of message bodies for SQS.

Limits: "Amazon SQS message quotas" in the Amazon SQS developer guide (allowed characters; 1 MiB per message since
August 2025, and the same per call).

Invariant, with a test: any bytes are preserved. A body that is not valid SQS text is sent as base64, marked by an
attribute of its message.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import attrs

__all__ = ["BATCH_BYTES", "MESSAGE_BYTES", "Encoded", "decode", "encode", "encoding_of", "fits"]

MESSAGE_BYTES = 1024 * 1024
BATCH_BYTES = 1024 * 1024

_ENCODING = "cloud-tasks-form"
"""Message attribute with the encoding of the body; absent for plain text."""
_BASE64 = "base64"
_INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@attrs.frozen
class Encoded:
    """One encoded message."""

    text: str
    encoding: str = ""
    unique: str = attrs.field(factory=lambda: uuid4().hex, eq=False)
    """Deduplication id."""

    @property
    def attributes(self) -> dict[str, Any]:
        return {_ENCODING: {"DataType": "String", "StringValue": self.encoding}} if self.encoding else {}

    @property
    def size(self) -> int:
        """Size in bytes as SQS counts it: body in UTF-8, and names, types and values of attributes."""
        return len(self.text.encode()) + (len(_ENCODING) + len("String") + len(self.encoding) if self.encoding else 0)


def encode(body: bytes) -> Encoded:
    """Encode a body as text that SQS accepts."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    # SQS refuses an empty body.
    if text and not _INVALID.search(text):
        return Encoded(text)
    return Encoded(base64.b64encode(body).decode() or "=", _BASE64)


def fits(body: bytes) -> bool:
    """Return whether SQS takes a body in a message."""
    # Base64 adds a third; the attribute that marks it has fewer than 100 bytes.
    return len(body) * 4 // 3 + 100 <= MESSAGE_BYTES or encode(body).size <= MESSAGE_BYTES


def encoding_of(message: Mapping[str, Any]) -> str:
    """Return the encoding of a received message: empty, or ``base64``."""
    return str(message.get("MessageAttributes", {}).get(_ENCODING, {}).get("StringValue", ""))


def decode(text: str, encoding: str) -> bytes:
    """Decode a body; text that is not valid base64 is returned unchanged."""
    if encoding != _BASE64:
        return text.encode()
    try:
        return b"" if text == "=" else base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()
