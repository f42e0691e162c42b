"""Block network access of tests: connections other than loopback are refused and logged.

Loaded by `conftest.py` in the test process, and by Python itself in child processes, since this folder is on their
`PYTHONPATH`. Refusals are also written to the file named by `CLOUD_TASKS_GUARD_LOG`, so that the test fails even if
the code under test suppresses the error.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Any

LOG_VARIABLE = "CLOUD_TASKS_GUARD_LOG"


class BeyondLoopbackError(RuntimeError):
    """Attempt to connect to another machine."""


def is_loopback(host: object) -> bool:
    """Return whether a host, in the form used by sockets, is this machine."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", errors="replace")
    if host is None or host in ("localhost", ""):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse(event: str, host: object) -> None:
    message = f"{event} to {host!r}: tests stay on this machine"
    log = os.environ.get(LOG_VARIABLE)
    if log:
        with open(log, "a") as file:
            file.write(f"{message}\n")
        raise BeyondLoopbackError(message)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        connection, address = arguments
        internet = connection.family in (socket.AF_INET, socket.AF_INET6)
        if internet and isinstance(address, tuple) and not is_loopback(address[0]):
            _refuse(event, address[0])
    elif event == "socket.getaddrinfo" and not is_loopback(arguments[0]):
        _refuse(event, arguments[0])


if os.environ.get(LOG_VARIABLE):
    sys.addaudithook(_audit)
