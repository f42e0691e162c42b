"""The labels that say whose an instance is and until when it may live: written at the launch, read by ``cleanup``."""

from __future__ import annotations

import getpass
import os
import re
from datetime import UTC, datetime

from cloud_tasks.model import Instance

__all__ = ["expiry", "owner_label", "ownership_labels"]


def ownership_labels(*, run_id: str, expires: datetime) -> dict[str, str]:
    """The labels of a new instance.

    Args:
        expires: When it may be swept away, whatever it does.
    """
    return {"run": run_id, "owner": owner_label(), "expires": str(int(expires.timestamp()))}


def owner_label() -> str:
    """This user's name as a label that every provider keeps as it is: ``a`` to ``z``, digits, dash."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return re.sub("[^a-z0-9]", "-", name.lower())[:63]


def expiry(instance: Instance) -> datetime | None:
    """When the instance's time is over (UTC); None where its label does not tell."""
    try:
        return datetime.fromtimestamp(int(instance.labels.get("expires", "")), UTC)
    except (ValueError, OverflowError, OSError):
        return None
