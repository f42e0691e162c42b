"""Encoding of message bodies for Storage Queue: XML-safe text of at most 64 KiB.

Limit: "About Queue Storage messages" ("Put Message" in the reference of the Queue service).

Invariant, with a test: any bytes are preserved. A body is sent as base64.
"""

from __future__ import annotations

import base64

__all__ = ["INLINE_BYTES", "decode", "encode"]

INLINE_BYTES = 47 * 1024
"""Largest body sent in the message itself: 64,172 characters of base64."""


def encode(body: bytes) -> str:
    """Encode a body as the text of a message."""
    return base64.b64encode(body).decode()


def decode(text: str) -> bytes:
    """Decode a body; text that is not valid base64 is returned unchanged."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()
