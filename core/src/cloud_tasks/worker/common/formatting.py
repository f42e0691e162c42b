"""Amounts in log lines and error messages."""

from __future__ import annotations

__all__ = ["counted", "format_bytes", "format_duration"]


def counted(number: int, noun: str) -> str:
    """Return number and noun, the noun in the plural unless there is one: ``1 task``, ``1,155 tasks``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_bytes(number: int) -> str:
    """Return a size in decimal units: ``480 bytes``, ``5.0 kB``, ``268.4 MB``."""
    if number < 1000:
        return counted(number, "byte")
    for divisor, unit in ((1e3, "kB"), (1e6, "MB")):
        if number < 999.95 * divisor:
            return f"{number / divisor:.1f} {unit}"
    return f"{number / 1e9:,.1f} GB"


def format_duration(seconds: float) -> str:
    """Return a duration with its two largest units: ``0.5s``, ``30s``, ``2m 13s``, ``1h 0m``."""
    if seconds < 10:
        return f"{round(seconds, 1):g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes and rest else f"{minutes}m" if minutes else f"{rest}s"
