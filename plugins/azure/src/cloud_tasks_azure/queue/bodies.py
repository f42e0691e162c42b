"""Encoding of message bodies for Storage Queue: XML-safe text of at most 64 KiB.

Limit: "About Queue Storage messages" ("Put Message" in the reference of the Queue service).

Invariants, each with a test:

1. Any bytes are preserved: a body is sent as base64.
2. A reference to a blob is never valid base64.
"""

from __future__ import annotations

import base64

__all__ = ["INLINE_BYTES", "decode", "encode", "pointer", "pointer_in"]

INLINE_BYTES = 47 * 1024
"""Largest body sent in the message itself: 64,172 characters of base64."""
_BLOB = "blob:"
"""Prefix of a reference to a blob; base64 has no colon."""


def encode(body: bytes) -> str:
    """Encode a body as the text of a message."""
    return base64.b64encode(body).decode()


def decode(text: str) -> bytes:
    """Decode a body; text that is not valid base64 is returned unchanged."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def pointer(blob: str) -> str:
    """Return the message text for a body stored in a blob."""
    return f"{_BLOB}{blob}"


def pointer_in(text: str) -> str | None:
    """Return the blob that a message text refers to, or None if the text is the body."""
    return text.removeprefix(_BLOB) if text.startswith(_BLOB) else None
