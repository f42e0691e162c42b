"""Connections without a complete request are bounded in number and time."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serve

from cloud_tasks_dashboard import connection_limits


@pytest.fixture
def own(folder: Path) -> Iterator[Served]:
    with serve(folder) as found:
        yield found


def half_sent(port: int, stack: contextlib.ExitStack) -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    return connection


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_headers_have_a_time_limit(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEADER_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        waiting = half_sent(own.port, stack)
        idle = stack.enter_context(socket.create_connection(("127.0.0.1", own.port)))
        assert is_closed(waiting)
        assert is_closed(idle)


def test_slow_second_request_of_a_connection_has_a_time_limit(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEADER_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(1) == b"H"
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        connection.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass


def test_half_sent_requests_are_bounded(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "MAX_WAITING", 5)
    with contextlib.ExitStack() as stack:
        connections = [half_sent(own.port, stack) for _ in range(12)]
        assert all(is_closed(connection) for connection in connections[:7])
        assert own.ask("api/jobs").status == 200
