"""Compact JSON encoding of many small values. Imports `json` only: every task process loads it."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable
from typing import Any

__all__ = ["compact_encoder"]


def compact_encoder(default: Callable[[Any], Any] | None = None, *, allow_nan: bool = True) -> Callable[[Any], str]:
    """Return a function that encodes like ``json.dumps`` with these arguments and without blanks.

    For small values, ``json.dumps`` spends most of its time on creating its C encoder in each call; here it is created
    once, if the interpreter has one. The function raises `RecursionError` for a value that contains itself.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), default=default, allow_nan=allow_nan)
    make: Callable[..., Any] | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    escape = json.encoder.encode_basestring_ascii
    # Without the table of containers being encoded: an error would leave entries in it.
    chunks = make(None, encoder.default, escape, None, ":", ",", False, False, allow_nan)
    join = "".join
    return lambda value: join(chunks(value, 0))
