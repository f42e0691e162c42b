"""The security invariants of the server, one by one."""

from __future__ import annotations

import hmac
import inspect
import logging
import re
import socket
import sqlite3
from pathlib import Path

import pytest
from made_jobs import failed, make_job
from served import Served, serve

from cloud_tasks_dashboard import server
from cloud_tasks_dashboard.command import dashboard
from cloud_tasks_dashboard.database import open_reader

PATHS = [
    "",
    "main.js",
    "page.css",
    "api/jobs",
    "api/job/job.db",
    "api/job/job.db/timeline",
    "api/job/job.db/tasks",
    "api/job/job.db/task?id=two",
    "api/job/job.db/failure?event=4",
]


# -- 1: loopback only


def test_server_listens_on_the_loopback_address_only(served: Served) -> None:
    with server.listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        # Another loopback address, closed like every address except one.
        other.connect(("127.0.0.2", served.port))
    assert not {"host", "bind", "address"} & {option.name for option in dashboard.params}


# -- 2: the token


@pytest.mark.parametrize("path", PATHS)
def test_request_without_the_token_gets_a_uniform_404(served: Served, path: str) -> None:
    assert served.ask(path).status == 200
    nothing = served.ask("x", token="")
    for token in ("", "wrong", served.token[:-1], f"{served.token}x", served.token.swapcase(), "%C3%A9"):
        refused = served.ask(path, token=token)
        assert (refused.status, refused.body) == (404, nothing.body)


def test_token_is_compared_in_constant_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Recorder:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(server, "hmac", Recorder)
    served.ask("api/jobs", token="guess")
    assert compared == [(b"guess", served.token.encode())]


def test_token_is_random_with_256_bits() -> None:
    tokens = {server.make_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_token_is_in_no_log(
    served: Served, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("uvicorn.access", "uvicorn.error", "uvicorn.asgi"):
        caplog.set_level(logging.DEBUG, name)
    for path in (*PATHS, "api/job/other.db", "nothing"):
        served.ask(path)
    output = capfd.readouterr()
    assert served.token not in output.out + output.err + caplog.text


# -- 3: the Host header


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9999", "LOCALHOST", "127.0.0.1:1", "[::1]:8000"])
def test_host_header_accepts_names_of_this_machine_with_any_port(served: Served, host: str) -> None:
    assert served.ask("api/jobs", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "127.0.0.1.attacker.example", "localhost.attacker.example:80", "", "192.0.2.1", "[::1", "::1"],
)
def test_host_header_of_another_site_is_refused_with_the_token(served: Served, host: str) -> None:
    answer = served.ask("api/jobs", host=host)
    assert answer.status == 421
    assert b"job" not in answer.body


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize(
    "rest", [":80@attacker.example", ":abc", ":", ":-1", ":99999", ":8 0", "/", "@x", ":80:80", "%00", "\\", "]", "."]
)
def test_host_header_that_is_more_than_a_name_and_a_port_is_refused(served: Served, name: str, rest: str) -> None:
    assert served.ask("api/jobs", host=f"{name}{rest}").status in (400, 421)


# -- 4: read-only


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["", "api/jobs", "api/job/job.db", "nothing"])
def test_methods_other_than_get_and_head_are_refused(served: Served, path: str, method: str) -> None:
    assert served.ask(path, method=method).status == 405


def test_database_connection_is_read_only(folder: Path) -> None:
    with open_reader(folder / "job.db") as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM tasks")


def test_requests_leave_the_database_unchanged(served: Served, folder: Path) -> None:
    database = folder / "job.db"
    before = database.read_bytes()
    for path in PATHS:
        served.ask(path)
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    "name",
    ["..%2Fsecret.db", "%2Fetc%2Fpasswd", "..", "secret.txt", "job.db%00", "....//secret.db", "%2e%2e/secret.db"],
)
def test_request_cannot_name_other_files(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make_job(tmp_path, ["one"], name="secret.db")
    (folder / "secret.txt").write_text("secret")
    make_job(folder, ["one"])
    with serve(folder) as served:
        for path in (f"api/job/{name}", f"api/job/{name}/tasks", name):
            answer = served.ask(path)
            assert answer.status == 404
            assert b"one" not in answer.body.replace(b"nothing", b"")


# -- 5: no secrets


def test_configuration_and_environment_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", "swordfish-of-the-environment")
    events = [failed("two", 4)]
    make_job(tmp_path, ["two"], events=events, config={"aws": {"secret_access_key": "swordfish-of-the-configuration"}})
    with serve(tmp_path) as served:
        for path in PATHS:
            answer = served.ask(path.replace("event=4", "event=1"))
            assert answer.status == 200
            assert b"swordfish" not in answer.body
            assert str(tmp_path).encode() not in answer.body


# -- 6: text stays text


@pytest.mark.parametrize("path", [*PATHS, "nothing", "api/job/other.db"])
def test_responses_have_the_security_headers(served: Served, path: str) -> None:
    headers = served.ask(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_page_files_use_no_other_host_and_create_no_markup_from_text(served: Served) -> None:
    folder = Path(inspect.getfile(server)).parent / "page"
    for file in folder.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?:|//\w+\.\w|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(| style=", text
        )
        if file.suffix == ".html":
            assert not re.search(r"<script(?![^>]*src)|<style| on\w+=", text)


def test_every_security_invariant_has_a_test() -> None:
    invariants = re.findall(r"^(\d)\. ", server.__doc__ or "", re.MULTILINE)
    tested = re.findall(r"^# -- (\d):", Path(__file__).read_text(), re.MULTILINE)
    assert tested == invariants
