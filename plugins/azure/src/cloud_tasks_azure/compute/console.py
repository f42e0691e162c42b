"""Serial console log of a VM, from its boot diagnostics.

Invariants, each with a test:

1. The signed URL of the log never appears in an error message.
2. The log of a VM that is gone is an error: it is lost, and not empty.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin.kit import CONSOLE_BYTES
from cloud_tasks_azure.compute.arm import COMPUTE, Arm
from cloud_tasks_azure.compute.compute_errors import translate_errors

__all__ = ["read_console"]

_TIMEOUT = 30


def read_console(arm: Arm, group: str, name: str) -> str:
    """Return the end of the console output; empty if there is none. Raises `NotFoundError` if there is no such VM."""
    action = f"read the console of {name}"
    try:
        with translate_errors(action):
            data = arm.compute().virtual_machines.retrieve_boot_diagnostics_data(group, name, api_version=COMPUTE)
    except NotFoundError as error:
        raise NotFoundError(f"cannot {action}: its VM no longer exists") from error
    except ProviderError as error:
        # A VM that is being created has no diagnostics yet; Azure answers with a conflict.
        if "diagnostics" in error.message.lower():
            return ""
        raise
    url = data.get("serialConsoleLogBlobUri")
    return _download_end(str(url), action) if url else ""


def _download_end(url: str, action: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            content: bytes = response.read()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return ""
        raise ProviderError(f"cannot {action}: HTTP {error.code}", transient=error.code >= 500) from None
    except (OSError, HTTPException, ValueError) as error:
        raise ProviderError(f"cannot {action}: {type(error).__name__}", transient=True) from None
    return content[-CONSOLE_BYTES:].decode(errors="replace")
