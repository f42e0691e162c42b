"""Ownership labels of instances: run, owner and expiry. Written at the launch, read by ``cleanup``."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from cloud_tasks.model import Instance, InstanceState

__all__ = ["belongs_to_other_run", "describe_owner", "expiry", "owner_label", "ownership_labels"]


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


def belongs_to_other_run(instance: Instance, known_runs: Collection[str]) -> bool:
    """Return whether the instance was launched by a run that a job's database does not know: another controller's."""
    run = instance.labels.get("run")
    return bool(run) and run not in known_runs


def describe_owner(instance: Instance) -> str:
    """Return whose instance it is, in one line."""
    owner, run = (instance.labels.get(key) or "unknown" for key in ("owner", "run"))
    return f"{instance.instance_id} of owner {owner}, run {run}, created {instance.created_at:%Y-%m-%d %H:%M} UTC"


def expiry(instance: Instance) -> datetime | None:
    """Return when the instance expires (UTC); None without a valid label, and for a pending instance.

    The label counts the lifetime from the request; it is moved by the time until the start, if the provider names that.
    """
    if instance.state is InstanceState.PENDING:
        return None
    try:
        end = datetime.fromtimestamp(int(instance.labels.get("expires", "")), UTC)
        return end + max((instance.started_at or instance.created_at) - instance.created_at, timedelta(0))
    except (ValueError, OverflowError, OSError, TypeError):
        return None
