"""The names of a queue's topic and subscription, and the labels that they carry.

Invariants, each with a test:

1. Different queues of a project have different names, whatever users call them.
2. A name is one that the API takes: "A resource name" in the Pub/Sub documentation (3 to 255 characters of letters,
   digits and ``-_.~+%``, the first one a letter, not beginning with ``goog``).
"""

from __future__ import annotations

import hashlib
import re

import attrs

__all__ = ["Names", "label_value", "names"]

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.~+-]")
_NOT_IN_LABEL = re.compile(r"[^a-z0-9_-]")
_LONGEST = 255
_LONGEST_LABEL = 63
"""Characters; "Creating and managing labels" in the Resource Manager documentation."""


@attrs.frozen
class Names:
    """Where a queue is: a topic with one subscription."""

    topic: str
    """``projects/…/topics/…``."""
    subscription: str
    subscription_id: str
    """The last part alone, as Cloud Monitoring has it."""


def names(project: str, prefix: str, name: str) -> Names:
    """The names of a queue.

    Args:
        prefix: What all topics and subscriptions of this system in the project begin with.
        name: The queue, as users call it.
    """
    wanted = f"{prefix}{name}"
    plain = _NOT_ALLOWED.sub("-", wanted)
    if plain != wanted or len(plain) > _LONGEST:
        # What was changed gets a mark of what it was, so that it stays different from what looks the same now.
        mark = hashlib.sha256(wanted.encode()).hexdigest()[:16]
        plain = f"{plain[: _LONGEST - len(mark) - 1]}-{mark}"
    return Names(f"projects/{project}/topics/{plain}", f"projects/{project}/subscriptions/{plain}", plain)


def label_value(text: str) -> str:
    """The text as a label's value."""
    return _NOT_IN_LABEL.sub("-", text.lower())[:_LONGEST_LABEL]
