"""Ownership labels of instances: run, owner and expiry. Written at the launch, read by ``cleanup``."""

from __future__ import annotations

import getpass
import os
import re
from datetime import UTC, datetime

from cloud_tasks.model import Instance

__all__ = ["expiry", "owner_label", "ownership_labels"]


def ownership_labels(*, run_id: str, expires: datetime) -> dict[str, str]:
    """Return the labels of a new instance.

    Args:
        expires: Time after which ``cleanup`` may terminate it.
    """
    return {"run": run_id, "owner": owner_label(), "expires": str(int(expires.timestamp()))}


def owner_label() -> str:
    """Return the user name as a label that is valid for every provider: ``a`` to ``z``, digits, dash."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return re.sub("[^a-z0-9]", "-", name.lower())[:63]


def expiry(instance: Instance) -> datetime | None:
    """Return when the instance expires (UTC); None without a valid label."""
    try:
        return datetime.fromtimestamp(int(instance.labels.get("expires", "")), UTC)
    except (ValueError, OverflowError, OSError):
        return None
