"""Compact JSON text of many small values. Imports nothing but `json`: every task process of a worker has it."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable
from typing import Any

__all__ = ["compact_encoder"]


def compact_encoder(default: Callable[[Any], Any] | None = None, *, allow_nan: bool = True) -> Callable[[Any], str]:
    """A function that encodes as ``json.dumps`` does with these arguments and without blanks.

    For small values most of the time of ``json.dumps`` goes into making its C encoder anew at each call; here that is
    made once, where the interpreter has one. A value that contains itself ends in `RecursionError`.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), default=default, allow_nan=allow_nan)
    make: Callable[..., Any] | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    escape = json.encoder.encode_basestring_ascii
    # Without the record of what is being encoded: an error would leave it dirty.
    chunks = make(None, encoder.default, escape, None, ":", ",", False, False, allow_nan)
    join = "".join
    return lambda value: join(chunks(value, 0))
