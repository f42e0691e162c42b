"""Downloads by real shells with curl and with Python, from a server on this machine."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from missing import missing
from small_disk import fill, small_disk

from cloud_tasks.escape import shell_word
from cloud_tasks.plugin import Download
from cloud_tasks.plugin.kit import DOWNLOAD_FUNCTION, download_command

SHELLS = ["dash", "bash -euo pipefail", "busybox ash"]
FETCHERS = ["curl", "python3"]
CONTENT = bytes(range(256)) * 40
UTILITIES = ("tr", "sed", "head", "rm")
TOKEN = "ya29.c-_~+/=7"
CUT = (200, CONTENT[:5000])
Answers = list[tuple[int, bytes] | None]

S3 = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Request has expired</Message><X-Amz-Expires>60</X-Amz-Expires></Error>"""
GCS = b"""<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>Access denied.</Message>
<Details>w@p.example does not have storage.objects.get access</Details></Error>"""
BLOB = b"""\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?><Error><Code>BlobNotFound</Code><Message>The specified blob
does not exist.\nRequestId:1\nTime:2026</Message></Error>"""
IMDS = b'{"error":"invalid_request","error_description":"Identity not found"}'
JSON = b'{\n "error": {"code": 403, "message": "No access.", "errors": []}}'


class Store(ThreadingHTTPServer):
    """Answers in order; afterwards with the content. None closes the connection, `CUT` after half of the content."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: dict[str, Answers] = {}
        self.calls: list[tuple[str, dict[str, str]]] = []


class Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        self.server.calls.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        left = self.server.answers.get(self.path, [])
        token = (
            b'{ "expires_in": 1, "access_token": "%s",\n"token_type": "Bearer"}' % TOKEN.replace("/", r"\/").encode()
        )
        answer = left.pop(0) if left else (200, token if self.path == "/token" else CONTENT)
        if answer is None:
            self.connection.close()
            return
        self.send_response(answer[0])
        self.send_header("Location", "/elsewhere")
        is_cut = answer is CUT
        self.send_header("Content-Length", str(len(CONTENT if is_cut else answer[1])))
        self.end_headers()
        self.wfile.write(answer[1])
        self.close_connection = is_cut

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Machine:
    """An instance with few programs: its ``sleep`` does not wait, and its fetcher records its arguments."""

    def __init__(self, folder: Path, fetcher: str) -> None:
        self.folder = folder
        self.fetcher = fetcher
        self.programs = folder / "bin"
        self.programs.mkdir(exist_ok=True)
        for name in UTILITIES:
            (self.programs / name).symlink_to(shutil.which(name) or name)
        self.add("sleep", 'echo "$1" >>sleeps')
        if fetcher:
            self.program = f"{sys.executable} -S" if fetcher == "python3" else shutil.which(fetcher)
            self.add(fetcher, f'echo "$*" >>arguments; exec {self.program} "$@"')

    def add(self, name: str, script: str) -> None:
        file = self.programs / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o700)

    def download(self, download: Download, *, shell: str = "dash", to: str = "file") -> str:
        """Return the output; of a success it is empty."""
        words = shell.split()
        if words[0] == "busybox":
            for name in UTILITIES:
                self.add(name, f'exec {shutil.which("busybox")} {name} "$@"')
        program = shutil.which(words[0]) or missing(f"{words[0]} is not installed", how=f"apt-get install {words[0]}")
        script = (
            f"{DOWNLOAD_FUNCTION}\nif {download_command(download, to=shell_word(to))}; then exit 0; else exit 7; fi\n"
        )
        done = subprocess.run(
            [program, *words[1:], "-c", script],
            cwd=self.folder,
            env={"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (7 if done.stderr else 0, "")
        return done.stderr

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(params=FETCHERS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


@pytest.mark.parametrize("shell", SHELLS)
def test_download_command_sends_headers_and_token_and_shows_them_in_no_argument(
    machine: Machine, store: Store, shell: str
) -> None:
    url = f"{store.url}/a%20b/[1-3]{{x,y}}/~'\"\\$HOME+%25.gz"
    text = "q\"uote \\back $HOME `id` 'x' #;"
    download = Download(
        url=f"{url}?sig=s3cret",
        headers={"x-text": text},
        token_url=f"{store.url}/token",
        token_headers={"Metadata": "true"},
    )
    assert machine.download(download, shell=shell, to="a file") == ""
    file = machine.folder / "a file"
    assert file.read_bytes() == CONTENT
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (token_path, token_headers), (path, headers) = store.calls
    assert (token_path, token_headers["metadata"]) == ("/token", "true")
    assert store.url + path == f"{url}?sig=s3cret"
    assert (headers["x-text"], headers["authorization"]) == (text, f"Bearer {TOKEN}")
    shown = "\n".join(machine.lines("arguments"))
    assert shown
    assert not any(secret in shown for secret in ("s3cret", TOKEN, "uote"))
    assert sorted(each.name for each in machine.folder.iterdir()) == ["a file", "arguments", "bin"]


@pytest.mark.parametrize(
    ("machine", "shell"), [*(("curl", shell) for shell in SHELLS), ("python3", "dash")], indirect=["machine"]
)
def test_download_command_repeats_what_may_pass(machine: Machine, store: Store, shell: str) -> None:
    store.answers = {
        "/token": [(404, b""), (410, b""), None, (200, b"{}")],
        "/file": [(503, S3), (429, b""), CUT, None],
    }
    assert machine.download(Download(url=f"{store.url}/file", token_url=f"{store.url}/token"), shell=shell) != ""
    assert [path for path, _ in store.calls].count("/token") == 8
    store.answers = {"/file": [CUT, (408, b"")]}
    assert machine.download(Download(url=f"{store.url}/file"), shell=shell) == ""
    assert (machine.folder / "file").read_bytes() == CONTENT
    assert machine.lines("sleeps") == ["1", "2", "4", "8", "16", "20", "20", "1", "2"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, S3, "HTTP 403 AccessDenied: Request has expired"),
        (403, GCS, "HTTP 403 AccessDenied: Access denied. w@p.example does not have storage.objects.get access"),
        (404, BLOB, "HTTP 404 BlobNotFound: The specified blob does not exist. RequestId:1 Time:2026"),
        (403, JSON, "HTTP 403 No access."),
        (400, IMDS, "HTTP 400 Identity not found"),
        (404, b"<html><h1>Not\x1b[31m found\0</h1></html>", "HTTP 404 Not [31m found"),
        (307, b"", "HTTP 307"),
        (401, b"x" * 100_000, f"HTTP 401 {'x' * 300}"),
    ],
)
def test_download_command_fails_at_once_with_what_the_store_says(
    machine: Machine, store: Store, status: int, body: bytes, expected: str
) -> None:
    url = f"{store.url}/file"
    for shell in SHELLS if machine.fetcher == "curl" else SHELLS[:1]:
        store.answers, store.calls = {"/file?sig=1": [(status, body)]}, []
        assert machine.download(Download(url=f"{url}?sig=1"), shell=shell) == f"cannot download {url}: {expected}\n"
        assert len(store.calls) == 1
        assert not (machine.folder / "file").exists()


def test_download_command_reports_a_refused_token(machine: Machine, store: Store) -> None:
    store.answers = {"/token": [(400, IMDS)]}
    download = Download(url=f"{store.url}/file", token_url=f"{store.url}/token?api-version=1")
    store.answers = {"/token?api-version=1": [(400, IMDS)]}
    expected = f"no token of {store.url}/token: HTTP 400 Identity not found"
    assert machine.download(download) == f"cannot download {store.url}/file: {expected}\n"


@pytest.mark.parametrize("machine", ["curl"], indirect=True)
def test_download_command_gives_up_after_some_attempts(machine: Machine, store: Store) -> None:
    store.answers = {"/file": [(500, JSON)] * 9}
    assert machine.download(Download(url=f"{store.url}/file")).endswith(": HTTP 500 No access.\n")
    assert len(store.calls) == 8
    refused = machine.download(Download(url="http://127.0.0.1:9/file"))
    assert refused.startswith("cannot download http://127.0.0.1:9/file: ")
    assert "refused" in refused.lower() or "connect" in refused


def test_download_command_reports_a_file_that_cannot_be_written(machine: Machine, store: Store) -> None:
    said = machine.download(Download(url=f"{store.url}/file"), to="missing/file")
    assert said.startswith(f"cannot download {store.url}/file: cannot write missing/file; ")
    assert said.count("\n") == 1
    assert machine.lines("sleeps") == []


def test_download_command_reports_a_full_disk_at_once(machine: Machine, store: Store, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        said = machine.download(Download(url=f"{store.url}/file"), to="disk/file")
        assert not (disk / "file").exists()
    assert said.startswith(f"cannot download {store.url}/file: cannot write disk/file; is the disk full? (")
    assert said.endswith(")\n")
    assert "000" not in said
    assert (len(store.calls), machine.lines("sleeps")) == (1, [])


def test_download_command_uses_no_proxy_for_the_token(machine: Machine, store: Store) -> None:
    proxy = f"http_proxy={store.url}/proxy; export http_proxy"
    machine.add(machine.fetcher, f'{proxy}; exec {machine.program} "$@"')
    download = Download(url="http://depot.invalid/file", token_url=f"{store.url}/token")
    assert machine.download(download) == ""
    assert [path for path, _ in store.calls] == ["/token", "http://depot.invalid/file"]


def test_download_command_names_what_is_not_installed(tmp_path: Path) -> None:
    said = Machine(tmp_path, "").download(Download(url="http://127.0.0.1:9/file"))
    assert said == "cannot download http://127.0.0.1:9/file: neither curl nor python3 is installed\n"


def test_download_command_keeps_segments_of_dots(machine: Machine, store: Store) -> None:
    assert machine.download(Download(url=f"{store.url}/a/../b/./c")) == ""
    assert store.calls[0][0] == "/a/../b/./c"
