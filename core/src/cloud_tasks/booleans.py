"""Boolean values as text, in environment variables, options and files. Imports nothing: every process loads it."""

from __future__ import annotations

__all__ = ["BOOLEANS", "parse_boolean"]

BOOLEANS = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip
"""Values by text in lower case."""


def parse_boolean(text: str) -> bool:
    """Return the value of a text, ignoring case and surrounding blanks.

    Raises:
        ValueError: The text is none of `BOOLEANS`; also if it is empty.
    """
    try:
        return BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError(f'expected true or false, got "{text}"') from None
