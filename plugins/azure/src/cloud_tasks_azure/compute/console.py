"""The serial console of a machine, from its boot diagnostics.

Invariant, with a test: the address of the log, which is signed, is in no error's text.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from http.client import HTTPException

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_azure.compute.clients import Clients
from cloud_tasks_azure.compute.failures import mapped

__all__ = ["read_console"]

_BYTES = 64 * 1024
_TIMEOUT = 30


def read_console(clients: Clients, group: str, name: str) -> str:
    """The end of what the machine printed; empty where there is nothing, or no machine."""
    what = f"read the console of {name}"
    try:
        with mapped(what):
            told = clients.compute.virtual_machines.retrieve_boot_diagnostics_data(group, name)
    except NotFoundError:
        return ""
    except ProviderError as error:
        # A machine that is being made has no diagnostics yet, and says so by a conflict.
        if "diagnostics" in error.message.lower():
            return ""
        raise
    address = told.serial_console_log_blob_uri
    return _end_of(address, what) if address else ""


def _end_of(address: str, what: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return ""
        raise ProviderError(f"cannot {what}: HTTP {error.code}", transient=error.code >= 500) from None
    except (OSError, HTTPException, ValueError) as error:
        raise ProviderError(f"cannot {what}: {type(error).__name__}", transient=True) from None
    return content[-_BYTES:].decode(errors="replace")
