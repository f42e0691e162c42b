"""Encryption of one text with one key: for an object that others can read, whose key travels by another way.

The text is combined with the output of SHAKE-256 for the key, as long as the text. What is sealed has no digest of its
own: it is used only where its SHA-256 is known from the place that has the key.

Invariants, each with a test:

1. Each text has a key of its own, made by `seal`: with one key for two texts, their difference could be read.
2. The size of what is sealed shows the size of the text in steps of 4 KiB only.
"""

from __future__ import annotations

import hashlib
import os

__all__ = ["seal", "unseal"]

_KEY_BYTES = 32
_SIZE_BYTES = 8
_STEP = 4096
_PURPOSE = b"cloud-tasks sealed text 1\0"


def seal(content: bytes) -> tuple[bytes, bytes]:
    """Return what is sealed, and its key of 32 random bytes."""
    key = os.urandom(_KEY_BYTES)
    text = len(content).to_bytes(_SIZE_BYTES, "big") + content
    return _combine(text + bytes(-len(text) % _STEP), key), key


def unseal(sealed: bytes, key: bytes) -> bytes:
    """Return the text. Raises `ValueError` if it was sealed with another key."""
    text = _combine(sealed, key)
    size = int.from_bytes(text[:_SIZE_BYTES], "big")
    if len(key) != _KEY_BYTES or not 0 <= len(text) - _SIZE_BYTES - size < _STEP or any(text[_SIZE_BYTES + size :]):
        raise ValueError("sealed with another key")
    return text[_SIZE_BYTES : _SIZE_BYTES + size]


def _combine(text: bytes, key: bytes) -> bytes:
    stream = hashlib.shake_256(_PURPOSE + key).digest(len(text))
    return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(text), "big")
