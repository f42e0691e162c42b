"""What the queue that users call ``NAME`` is called at Azure Storage.

A name there has 3 to 63 lower-case letters, digits and hyphens, begins and ends with none of the latter, and has no
two of them together ("Naming queues and metadata" in the Azure documentation). A name that is not like that is
shortened and told apart by a part of its hash. Which queue it is meant for is besides in the queue's metadata.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

__all__ = ["MAX_LENGTH", "NAME_KEY", "base_name", "metadata_for", "physical_name"]

MAX_LENGTH = 63
NAME_KEY = "cloud_tasks_queue"
"""Metadata: the name as users know it."""
_JOB_KEY = "cloud_tasks_job"
_SUFFIX = 4
"""Characters that a generation takes at most: ``-999``."""
_HASH = 8


def base_name(prefix: str, name: str) -> str:
    """The name of the first generation."""
    wanted = f"{prefix}{name}"
    valid = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9-]", "-", wanted.lower())).strip("-")
    if valid == wanted and 3 <= len(valid) <= MAX_LENGTH - _SUFFIX:
        return valid
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:_HASH]
    kept = valid[: MAX_LENGTH - _SUFFIX - _HASH - 1].rstrip("-")
    return f"{kept}-{mark}" if kept else f"q-{mark}"


def physical_name(base: str, generation: int) -> str:
    """The name of a generation, counted from 1."""
    return base if generation == 1 else f"{base}-{generation}"


def metadata_for(name: str, job_id: str) -> dict[str, str]:
    """What a queue carries, so that it is known for ours."""
    # Values of headers are ASCII.
    return {NAME_KEY: quote(name), _JOB_KEY: quote(job_id)}
