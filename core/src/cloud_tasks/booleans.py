"""The words for true and false that variables, options and files accept: one table, light enough for every process."""

from __future__ import annotations

__all__ = ["BOOLEANS", "parse_boolean"]

BOOLEANS = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip
"""In lower case; any case is accepted."""


def parse_boolean(text: str) -> bool:
    """Return the value of a word; surrounding blanks do not count. Raises `ValueError`, for the empty text too."""
    try:
        return BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError(f'expected true or false, got "{text}"') from None
