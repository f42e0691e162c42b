"""Durations as people write them, such as ``90s``, ``10m`` or ``1h 30m``: light enough for every process."""

from __future__ import annotations

import re

__all__ = ["DURATION_PATTERN", "format_seconds", "parse_duration"]

_UNITS = {
    "d": (86_400, "d|days?"),
    "h": (3_600, "h|hrs?|hours?"),
    "m": (60, "m|min|mins|minutes?"),
    "s": (1, "s|sec|secs|seconds?"),
    "ms": (0.001, "ms"),
}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
DURATION_PATTERN = r"\s*" + "".join(rf"(?:({_NUMBER})\s*(?:{words})\s*)?" for _, words in _UNITS.values())
"""Each unit at most once, largest first; also matches a text without any unit, which is not a duration."""
_DURATION = re.compile(DURATION_PATTERN)


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as ``10m``. Raises `ValueError`, also for a number without a unit."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f'expected a duration such as 90s, 10m or 2h, got "{text}"')
    parts = zip(match.groups(), _UNITS.values(), strict=True)
    # Rounding keeps 1.1m at 66 s; the sum of the products is 66.00000000000001.
    return round(sum(float(number) * seconds for number, (seconds, _) in parts if number), 6)


def format_seconds(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads as these seconds, e.g. ``1h 30m``."""
    if not 0 < seconds < float("inf"):
        return "0s" if seconds == 0 else f"{seconds:g}"
    parts, rest = [], seconds
    for unit in ("d", "h", "m"):
        number, rest = divmod(rest, _UNITS[unit][0])
        if number:
            parts.append(f"{number:.0f}{unit}")
    if rest:
        parts.append(f"{rest:.6f}".rstrip("0").rstrip(".") + "s")
    return " ".join(parts)
