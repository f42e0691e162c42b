"""Encoding of message bodies for SQS, and batching.

Limits: "Amazon SQS message quotas" in the Amazon SQS developer guide (allowed characters; 1 MiB per message since
August 2025, and the same per call; ten messages per call).

Invariants, each with a test:

1. Any bytes are preserved: a body that is not valid SQS text is sent as base64, marked by a message attribute.
2. A call carries at most ten messages and at most the byte limit, attributes included.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

__all__ = [
    "BATCH_BYTES",
    "BATCH_ENTRIES",
    "MESSAGE_BYTES",
    "POINTER",
    "Encoded",
    "batches",
    "decode",
    "encode",
    "encoding_of",
    "pointer",
]

MESSAGE_BYTES = 1024 * 1024
BATCH_BYTES = 1024 * 1024
BATCH_ENTRIES = 10

_ENCODING = "cloud-tasks-form"
"""Message attribute with the encoding of the body; absent for plain text."""
_BASE64 = "base64"
POINTER = "s3"
"""Encoding of a message whose body is stored in S3."""
_INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@attrs.frozen
class Encoded:
    """One encoded message."""

    index: int
    """Index in the bodies given to `Queue.send`."""
    text: str
    encoding: str = ""

    @property
    def attributes(self) -> dict[str, Any]:
        return {_ENCODING: {"DataType": "String", "StringValue": self.encoding}} if self.encoding else {}

    @property
    def size(self) -> int:
        """Size in bytes as SQS counts it: body in UTF-8, and names, types and values of attributes."""
        return len(self.text.encode()) + (len(_ENCODING) + len("String") + len(self.encoding) if self.encoding else 0)


def encode(index: int, body: bytes) -> Encoded:
    """Encode a body as text that SQS accepts."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    # SQS refuses an empty body.
    if text and not _INVALID.search(text):
        return Encoded(index, text)
    return Encoded(index, base64.b64encode(body).decode() or "=", _BASE64)


def pointer(index: int, key: str) -> Encoded:
    """Return the message for a body stored in S3."""
    return Encoded(index, key, POINTER)


def encoding_of(message: Mapping[str, Any]) -> str:
    """Return the encoding of a received message: empty, ``base64`` or ``s3``."""
    return str(message.get("MessageAttributes", {}).get(_ENCODING, {}).get("StringValue", ""))


def decode(text: str, encoding: str) -> bytes:
    """Decode a body; text that is not valid base64 is returned unchanged."""
    if encoding != _BASE64:
        return text.encode()
    try:
        return b"" if text == "=" else base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def batches(messages: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    """Divide messages into calls; each message must fit into a call by itself."""
    batch: list[Encoded] = []
    free = BATCH_BYTES
    for message in messages:
        size = message.size
        if batch and (len(batch) == BATCH_ENTRIES or size > free):
            yield batch
            batch, free = [], BATCH_BYTES
        batch.append(message)
        free -= size
    if batch:
        yield batch
