"""Shipped programs that cannot start on a bare machine: the reason is logged, and the run ends after two instances."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from bare_job_folder import bare_job_folder
from bare_machine import debian_root
from cloud_storage import CloudStorage
from fake_server import Answer, FakeServer, Request
from shipped_project import write_project

from cloud_tasks.shipping.uv_binary import uv_piece


@attrs.frozen(kw_only=True)
class Failure:
    """Something that prevents every start, and the reason that is logged."""

    reason: str
    program: str = ""
    requirements: str = ""
    suite: str = "bookworm"
    disk: str = ""
    is_refused: bool = False
    """Whether the instances may not read from the store."""
    environment: Mapping[str, str] = {}
    run: Mapping[str, object] = {}


FAILURES = {
    "module": Failure(program="import not_there", reason="program: find_craters.py:1: No module named 'not_there'"),
    "requirement": Failure(
        requirements="humanize==4.12.3\nmore-itertools>=10\n",
        environment={"UV_INDEX": "INDEX"},
        reason="requirements: .*humanize-4.12.3-.*403 Forbidden",
    ),
    "hash": Failure(
        run={"staging": "gs://bucket/changed"},
        reason="download: uv-x86_64-.*.gz: the SHA-256 is .*; someone may have changed it",
    ),
    "permission": Failure(is_refused=True, reason="download: .*HTTP 403 AccessDenied"),
    "disk": Failure(disk="90m", reason="environment: the disk is full: "),
    "index": Failure(
        environment={"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"},
        reason="environment: .*127.0.0.1:9.*Connection refused",
    ),
    "python": Failure(
        suite="bullseye",
        environment={"UV_PYTHON_INSTALL_MIRROR": "INDEX"},
        reason="environment: no Python 3.11 or later: use an image that has one, or set UV_PYTHON_INSTALL_MIRROR "
        ".*/cpython-3.11.*404",
    ),
}


@pytest.fixture
def index() -> Iterator[str]:
    """Yield the address of a package index that has one package, and refuses its file; as a mirror it has nothing."""
    server = FakeServer()
    name = "humanize-4.12.3-py3-none-any.whl"
    page = f"<!DOCTYPE html><html><body><a href='/files/{name}'>{name}</a></body></html>"

    def answer(request: Request) -> Answer:
        return Answer(body=page.encode(), headers={"Content-Type": "text/html"})

    server.route("GET", r"/simple/humanize/", answer)
    server.route("*", r"/files/.*", lambda request: Answer(status=403))
    server.route("*", r"/.*", lambda request: Answer(status=404))
    with server.serving():
        yield f"{server.url}/simple"


@pytest.mark.parametrize("name", FAILURES)
def test_run_ends_with_the_reason_of_starts_that_fail(
    name: str, tmp_path: Path, emulator: str, bare_store: CloudStorage, bare_cache: Path, index: str
) -> None:
    failure = FAILURES[name]
    uv = uv_piece("x86_64", bare_cache / "shipping")
    bare_store.put(f"gs://bucket/changed/{uv.name}", bytes(uv.size))
    environment = {key: value.replace("INDEX", index) for key, value in failure.environment.items()}
    root = debian_root(failure.suite)
    readers = set(bare_store.readers)
    with bare_job_folder(
        tmp_path, emulator=emulator, store=bare_store, cache=bare_cache, root=root, disk=failure.disk
    ) as job:
        write_project(job.folder, tasks=20)
        for file, text in (("find_craters.py", failure.program), ("requirements.txt", failure.requirements)):
            if text:
                (job.folder / file).write_text(text)
        if failure.is_refused:
            bare_store.readers.clear()
        try:
            ran = job.run(environment=environment, **failure.run)
        finally:
            bare_store.readers |= readers
        assert ran.returncode == 1
        assert re.search(f"Instance 'ct-craters-.*' cannot start: {failure.reason}", ran.stderr), ran.stderr
        assert "job stopped: 2 instances" in ran.stderr
        assert len(job.machines()) == 2
        assert job.commands.gce.state()["instances"] == []
