"""Messages as Storage Queue takes them: text that can stand in XML, of 64 KiB at most.

The limit is that of "About Queue Storage messages" ("Put Message" in the reference of the Queue service).

Invariants, each with a test:

1. Any bytes arrive as they were: a body travels as base64.
2. A text that refers to a blob is none that base64 could make.
"""

from __future__ import annotations

import base64

__all__ = ["INLINE_BYTES", "decode", "encode", "pointer", "pointer_in"]

INLINE_BYTES = 47 * 1024
"""Of a body that is sent in the message itself: 64,172 characters of base64."""
_BLOB = "blob:"
"""A colon is no sign of base64."""


def encode(body: bytes) -> str:
    """A body as the text of a message."""
    return base64.b64encode(body).decode()


def decode(text: str) -> bytes:
    """What `encode` was given; a text of another's making is taken as it is."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def pointer(blob: str) -> str:
    """The text of a message whose body is at a blob."""
    return f"{_BLOB}{blob}"


def pointer_in(text: str) -> str | None:
    """The blob that a message's text refers to; None where it is the body itself."""
    return text.removeprefix(_BLOB) if text.startswith(_BLOB) else None
