"""The guard that blocks network access of tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# An address reserved for documentation, which no machine has.
ELSEWHERE = "192.0.2.1"


def refusals() -> Path:
    return Path(os.environ["CLOUD_TASKS_GUARD_LOG"])


@pytest.fixture
def expected_refusal() -> Iterator[None]:
    """Expect a refusal, and remove it from the log."""
    log = refusals()
    before = log.read_text()
    yield
    assert log.read_text() != before, "no connection was refused"
    log.write_text(before)


@pytest.mark.usefixtures("expected_refusal")
def test_connection_to_another_machine_is_refused() -> None:
    with socket.socket() as connection, pytest.raises(RuntimeError, match="tests stay on this machine"):
        connection.connect((ELSEWHERE, 9))


@pytest.mark.usefixtures("expected_refusal")
def test_name_of_another_machine_is_not_resolved() -> None:
    with pytest.raises(RuntimeError, match="tests stay on this machine"):
        socket.getaddrinfo("machine.example", 80)


@pytest.mark.usefixtures("expected_refusal")
def test_child_process_is_guarded_too() -> None:
    program = f"import socket; socket.create_connection(('{ELSEWHERE}', 9), timeout=1)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "tests stay on this machine" in child.stderr


def test_loopback_connection_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        assert connection.getpeername() == server.getsockname()
