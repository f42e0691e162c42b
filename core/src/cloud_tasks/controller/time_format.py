"""Durations in log lines and reasons: ``45s``, ``10m``, ``1h 30m``."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["format_span"]

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def format_span(span: timedelta) -> str:
    """Return a duration in its two largest units that are not zero; below a second, in tenths."""
    total = round(span.total_seconds())
    if total < 1:
        return f"{max(span.total_seconds(), 0):.1f}s"
    parts: list[str] = []
    for unit, length in _UNITS:
        count, total = divmod(total, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
