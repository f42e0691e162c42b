"""Shared parts of the fake clouds."""

from __future__ import annotations

import os
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import pytest
from cloud_guests import Guest
from cloud_servers import await_port, free_port, running, serving
from fake_server import Answer, FakeServer, Fault, Request
from missing import missing

from cloud_tasks.testing import eventually


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        content: bytes = response.read()
    return content


def test_wire_passes_groups_and_parameters_to_route() -> None:
    def greet(request: Request) -> Answer:
        return Answer(body=f"{request.groups['name']} {request.query['n']} {request.headers['host']}")

    with FakeServer().serving() as server:
        server.route("GET", r"/greet/(?P<name>[^/]+)", greet)
        assert get(f"{server.url}/greet/a%20b?n=3") == f"a b 3 127.0.0.1:{server.port}".encode()
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            get(f"{server.url}/other")
        missing.value.close()


@pytest.mark.parametrize(("after_effect", "effects"), [(0.0, 0), (1.0, 1)])
def test_fault_occurs_before_or_after_effect(after_effect: float, effects: int) -> None:
    done: list[str] = []
    with FakeServer().serving() as server:
        server.route("GET", "/do", lambda request: done.append(request.path))
        server.fault = Fault(share=1.0, after_effect=after_effect, status=503)
        with pytest.raises(urllib.error.HTTPError, match="503") as struck:
            get(f"{server.url}/do")
        struck.value.close()
        assert len(done) == effects
        assert server.struck == 1


def test_fault_without_status_closes_connection() -> None:
    with FakeServer().serving() as server:
        server.route("GET", "/do", lambda request: "done")
        server.fault = Fault(share=1.0, status=None)
        with pytest.raises((OSError, HTTPException)):
            get(f"{server.url}/do")


def test_machine_runs_script_and_reports_exit_once(tmp_path: Path) -> None:
    codes: list[int] = []
    ended = threading.Event()

    def on_exit(code: int) -> None:
        codes.append(code)
        ended.set()

    guest = Guest(
        tmp_path / "m", '#!/bin/bash\necho "$GREETING"\nexit 3\n', environment={"GREETING": "hello"}, on_exit=on_exit
    )
    assert ended.wait(20)
    assert codes == [3]
    assert guest.console() == "hello\n"
    guest.end()
    assert codes == [3]


def test_machine_end_leaves_no_process(tmp_path: Path) -> None:
    codes: list[int] = []
    script = "#!/bin/bash\ntrap '' TERM\nsetsid sleep 600 &\n(setsid sleep 600 &)\necho ready\nwait\n"
    guest = Guest(tmp_path / "m", script, environment={}, on_exit=codes.append)
    eventually(lambda: guest.console() == "ready\n" and len(guest.processes()) >= 3)
    pids = guest.processes()
    guest.end()
    assert guest.processes() == set()
    assert not guest.running
    assert not any(
        os.path.exists(f"/proc/{pid}/environ") and "zombie" not in Path(f"/proc/{pid}/status").read_text()
        for pid in pids
    )
    assert codes == []


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_missing_skips_test_and_fails_on_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="the emulator is not installed: pip install it"):
        missing("the emulator is not installed", how="pip install it")


def test_serving_yields_listening_server_until_end_of_context() -> None:
    port = free_port()
    with serving("a server", [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], port=port) as one:
        assert b"log" in get(f"http://127.0.0.1:{port}/")
        assert one.poll() is None
    assert one.poll() is not None


def test_await_port_fails_with_log_of_exited_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        running([sys.executable, "-c", "print('no such option')"], log=log) as process,
        pytest.raises(pytest.fail.Exception, match="a server did not start: no such option"),
    ):
        await_port(process, free_port(), name="a server", log=log)
