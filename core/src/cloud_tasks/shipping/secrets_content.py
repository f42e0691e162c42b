"""The secrets of a job as one text, to be sealed; `cloud_tasks.worker.unseal` unpacks it on the instance."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

__all__ = ["secrets_content"]


def secrets_content(files: Mapping[str, bytes], worker: Mapping[str, str]) -> bytes:
    """Return the text.

    Args:
        files: Secrets for the tasks, by name.
        worker: Secrets for the supervisor alone, by variable.
    """
    content = {"files": {name: base64.b64encode(each).decode() for name, each in files.items()}, "worker": dict(worker)}
    return json.dumps(content).encode()
