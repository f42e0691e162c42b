"""Messages as SQS takes them: text of allowed characters, a limited size, ten to a call.

Limits: "Amazon SQS message quotas" in the Amazon SQS developer guide (characters; 1 MiB for a message since August
2025, and the same for all messages of one call together; ten to a call).

Invariants, each with a test:

1. Any bytes arrive as they were: what is not text that SQS takes travels as base64, and says so in an attribute.
2. No call carries more than ten messages or more than the limit of bytes, attributes counted.
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
    "form_of",
    "pointer",
]

MESSAGE_BYTES = 1024 * 1024
BATCH_BYTES = 1024 * 1024
BATCH_ENTRIES = 10

_FORM = "cloud-tasks-form"
"""The attribute that says how a body is to be read; a plain one has none."""
_BASE64 = "base64"
POINTER = "s3"
"""The form of a message whose body is at S3."""
_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@attrs.frozen
class Encoded:
    """One message, ready to be sent."""

    index: int
    """Its place in what `Queue.send` was given."""
    text: str
    form: str = ""

    @property
    def attributes(self) -> dict[str, Any]:
        return {_FORM: {"DataType": "String", "StringValue": self.form}} if self.form else {}

    @property
    def size(self) -> int:
        """As SQS counts: the body in UTF-8, and names, types and values of attributes."""
        return len(self.text.encode()) + (len(_FORM) + len("String") + len(self.form) if self.form else 0)


def encode(index: int, body: bytes) -> Encoded:
    """A body as text that SQS takes."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    # SQS refuses an empty body.
    if text and not _REFUSED.search(text):
        return Encoded(index, text)
    return Encoded(index, base64.b64encode(body).decode() or "=", _BASE64)


def pointer(index: int, key: str) -> Encoded:
    """A message whose body is at S3."""
    return Encoded(index, key, POINTER)


def form_of(message: Mapping[str, Any]) -> str:
    """How a received message's body is to be read: empty, ``base64`` or ``s3``."""
    return str(message.get("MessageAttributes", {}).get(_FORM, {}).get("StringValue", ""))


def decode(text: str, form: str) -> bytes:
    """What `encode` was given; a text of another's making is taken as it is."""
    if form != _BASE64:
        return text.encode()
    try:
        return b"" if text == "=" else base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def batches(messages: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    """Divide into calls; a message that is too large by itself must not be among them."""
    batch: list[Encoded] = []
    room = BATCH_BYTES
    for message in messages:
        size = message.size
        if batch and (len(batch) == BATCH_ENTRIES or size > room):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(message)
        room -= size
    if batch:
        yield batch
