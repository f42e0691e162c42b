"""Compact JSON text of many small values."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable
from typing import Any

__all__ = ["compact_encoder"]


def compact_encoder(default: Callable[[Any], Any] | None = None) -> Callable[[Any], str]:
    """A function that encodes as ``json.dumps(value, separators=(",", ":"), default=default)`` does.

    For small values most of the time of ``json.dumps`` goes into making its C encoder anew at each call; here that is
    made once, where the interpreter has one.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), default=default)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    escape = json.encoder.encode_basestring_ascii
    chunks = make({}, encoder.default, escape, None, ":", ",", False, False, True)
    join = "".join
    return lambda value: join(chunks(value, 0))
