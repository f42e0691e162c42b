"""The secrets of a job as one sealed text; `cloud_tasks.worker.unseal` unpacks it on the instance."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from cloud_tasks.sealing import seal

__all__ = ["pack_secrets"]


def pack_secrets(files: Mapping[str, bytes], worker: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return the sealed text and its key.

    Args:
        files: Secrets for the tasks, by name.
        worker: Secrets for the supervisor alone, by variable.
    """
    content = {"files": {name: base64.b64encode(each).decode() for name, each in files.items()}, "worker": dict(worker)}
    return seal(json.dumps(content).encode())
