"""Names for services that limit characters and length.

Invariants, each with a test:

1. A name has allowed characters only, and at most the given length.
2. Two texts never have one name, except by a collision of their digests (64 bits).
3. The name of a text never changes.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["safe_name"]

_DIGITS = 16


def safe_name(text: str, *, allowed: str, longest: int) -> str:
    """Return the name of a text: the text itself if it is valid, else its beginning with a digest of the whole text.

    Args:
        text: Any text. A prefix that the name must have is part of it.
        allowed: Characters as in a regular expression's brackets, such as ``a-z0-9-``. Includes ``-``, ``a-f`` and
            digits.
        longest: Maximum length, more than 17.
    """
    plain = re.sub(f"[^{allowed}]", "-", text)
    # A valid text with the form of a shortened one gets a digest as well: it could be the name of another text.
    if plain == text and 0 < len(text) <= longest and not re.search(rf"(?:\A|-)[0-9a-f]{{{_DIGITS}}}\Z", text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{plain[: longest - _DIGITS - 1]}-{digest}" if plain else digest
