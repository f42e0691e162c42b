"""Names and labels of a queue's topic and subscription.

Invariants, each with a test:

1. Different queues of a project have different names, whatever characters users choose.
2. A name is valid for the API: "A resource name" in the Pub/Sub documentation (3 to 255 characters of letters, digits
   and ``-_.~+%``, the first one a letter, not starting with ``goog``).
"""

from __future__ import annotations

import re

import attrs

from cloud_tasks.plugin.kit import safe_name

__all__ = ["Names", "label_value", "names"]

_NOT_IN_LABEL = re.compile(r"[^a-z0-9_-]")
_MAX_LENGTH = 255
_MAX_LABEL_LENGTH = 63
"""Maximum length of a label value ("Creating and managing labels" in the Resource Manager documentation)."""


@attrs.frozen
class Names:
    """Resource names of a queue: a topic with one subscription."""

    topic: str
    """Full name: ``projects/…/topics/…``."""
    subscription: str
    subscription_id: str
    """Last path segment, as used by Cloud Monitoring."""


def names(project: str, prefix: str, name: str) -> Names:
    """Return the resource names of a queue.

    Args:
        prefix: Prefix of all topics and subscriptions of cloud-tasks in the project.
        name: Queue name chosen by the user.
    """
    plain = safe_name(f"{prefix}{name}", allowed="A-Za-z0-9_.~+-", longest=_MAX_LENGTH)
    return Names(f"projects/{project}/topics/{plain}", f"projects/{project}/subscriptions/{plain}", plain)


def label_value(text: str) -> str:
    """Convert a text to a valid label value."""
    return _NOT_IN_LABEL.sub("-", text.lower())[:_MAX_LABEL_LENGTH]
