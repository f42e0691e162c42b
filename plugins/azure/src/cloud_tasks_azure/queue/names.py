"""Names of storage queues for the queue ``NAME``.

A storage queue name has 3 to 63 lower-case letters, digits and hyphens, without leading, trailing or consecutive
hyphens ("Naming queues and metadata" in the Azure documentation). Other names are shortened and made unique by a hash.
The queue's metadata contains the full name. Service Bus queues have the same names.

Invariants, each with a test:

1. A name is valid for Azure, for any queue name.
2. Two queues never have one name: a valid name with the form of a shortened one gets a hash as well.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

__all__ = ["MAX_LENGTH", "NAME_KEY", "azure_name", "metadata_for"]

MAX_LENGTH = 63
NAME_KEY = "cloud_tasks_queue"
"""Metadata key of the full queue name."""
_JOB_KEY = "cloud_tasks_job"
_HASH = 16
_SHORTENED = re.compile(rf"-[0-9a-f]{{{_HASH}}}\Z")


def azure_name(prefix: str, name: str) -> str:
    """Return a queue's name in Azure."""
    full_name = f"{prefix}{name}"
    valid = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9-]", "-", full_name.lower())).strip("-")
    if valid == full_name and 3 <= len(valid) <= MAX_LENGTH and not _SHORTENED.search(valid):
        return valid
    digest = hashlib.sha256(full_name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    kept = valid[: MAX_LENGTH - _HASH - 1].rstrip("-")
    return f"{kept}-{digest}" if kept else f"q-{digest}"


def metadata_for(name: str, job_id: str) -> dict[str, str]:
    """Return the metadata that identifies a managed queue."""
    # Metadata is sent in headers, which are ASCII.
    return {NAME_KEY: quote(name), _JOB_KEY: quote(job_id)}
