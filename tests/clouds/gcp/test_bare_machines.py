"""Programs that are shipped to bare machines of Google Cloud: nothing is installed on them but Debian's own Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from bare_machine import DISK, TEMPLATE, debian_root
from cloud_storage import CloudStorage, cloud_storage
from gcp_job_folder import REFERENCE_OPTIONS, GcpJobFolder, gcp_job_folder
from shipped_project import write_project

from cloud_tasks.shipping.uv_binary import uv_piece


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of the controllers: requirements are locked once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def store() -> Iterator[CloudStorage]:
    with cloud_storage() as found:
        yield found


@pytest.fixture
def suite() -> str:
    return "bookworm"


@pytest.fixture
def job_folder(
    tmp_path: Path, emulator: str, store: CloudStorage, cache: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GcpJobFolder]:
    monkeypatch.setenv(TEMPLATE, str(debian_root(suite)))
    with gcp_job_folder(tmp_path, emulator=emulator) as folder:
        folder.environment |= {
            "CLOUD_TASKS_CACHE_DIR": str(cache),
            "STORAGE_EMULATOR_HOST": store.server.url,
            "CLOUD_TASKS_GCP_METADATA_URL": store.settings.metadata_url,
            "NO_GCE_CHECK": "true",
        }
        yield folder


def configure(folder: GcpJobFolder, emulator: str, *, environment: Mapping[str, str] = {}, **run: object) -> str:
    settings = {
        "job_id": "craters",
        "program": "find_craters.py",
        "staging": "gs://bucket/staging",
        "environment": {"PUBSUB_EMULATOR_HOST": emulator, **environment},
        "scaling_check_interval": 1,
        "instance_termination_delay": 0,
        "max_instances": 1,
        **run,
    }
    return str(folder.write_config({"run": settings}))


def test_program_runs_on_a_bare_machine(job_folder: GcpJobFolder, emulator: str) -> None:
    write_project(job_folder.folder, tasks=200)
    config = configure(job_folder, emulator)
    options = [*REFERENCE_OPTIONS, "--max-instances", "1"]
    ran = job_folder.run("run", "--config", config, "--task-file", "tasks.json", *options)
    assert ran.returncode == 0, ran.stderr
    status = job_folder.status("craters")
    assert status["counts"]["completed"] == 200
    assert "Completed: 200" in ran.stdout
    print(ran.stderr)


@attrs.frozen(kw_only=True)
class Failure:
    """Something that prevents every start, and the line that names it."""

    reason: str
    environment: Mapping[str, str] = {}
    run: Mapping[str, object] = {}
    program: str = ""
    arrange: Callable[[CloudStorage, pytest.MonkeyPatch, Path], None] = lambda store, patch, cache: None


def change_uv(store: CloudStorage, patch: pytest.MonkeyPatch, cache: Path) -> None:
    piece = uv_piece("x86_64", cache / "shipping")
    store.put(f"gs://bucket/changed/{piece.name}", bytes(piece.size))


FAILURES = {
    "module": Failure(
        program="import not_there",
        reason="could not start: program: find_craters.py:1: No module named 'not_there'",
    ),
    "exit": Failure(
        program="import sys; sys.exit('no telescope')",
        reason="could not start: program: find_craters.py:.: .*no telescope",
    ),
    "return": Failure(
        program="print('nothing to do')",
        reason="could not start: program: it ended with exit code 0 before its worker started",
    ),
    "main": Failure(
        program="import sys\nif __name__ == '__main__':\n    raise ValueError('no telescope')",
        reason="could not start: program: find_craters.py:.: .*no telescope",
    ),
    "setup": Failure(
        run={"setup": ["echo preparing", "ls /no/such/file", "echo done"]},
        reason="could not start: setup: ls: cannot access '/no/such/file'",
    ),
    "hash": Failure(
        run={"staging": "gs://bucket/changed"},
        arrange=change_uv,
        reason="could not start: download: uv-x86_64-.*.gz: the SHA-256 is .*; someone may have changed it",
    ),
    "permission": Failure(
        arrange=lambda store, patch, cache: patch.setattr(store, "readers", set()),
        reason="could not start: download: .*HTTP 403 AccessDenied",
    ),
    "disk": Failure(
        arrange=lambda store, patch, cache: patch.setenv(DISK, "90m"),
        reason="could not start: .*the disk is full",
    ),
    "no_index": Failure(
        environment={"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"},
        reason="could not start: environment: .*127.0.0.1:9.*Connection refused",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failed_start_ends_the_run(
    name: str, cache: Path, store: CloudStorage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    failure = FAILURES[name]
    failure.arrange(store, monkeypatch, cache)
    emulator: str = request.getfixturevalue("emulator")
    job_folder: GcpJobFolder = request.getfixturevalue("job_folder")
    write_project(job_folder.folder, tasks=20)
    if failure.program:
        (job_folder.folder / "find_craters.py").write_text(failure.program)
    config = configure(job_folder, emulator, environment=failure.environment, **failure.run)
    options = [*REFERENCE_OPTIONS, "--max-instances", "1"]
    ran = job_folder.run("run", "--config", config, "--task-file", "tasks.json", *options)
    print(ran.returncode, ran.stdout, ran.stderr)
    reasons = re.findall("start failed: .*", ran.stderr)
    print("\n".join(["REASONS", *reasons]))
    status = job_folder.status("craters")
    print("INSTANCES", status.get("instances"))
    assert ran.returncode == 1
    assert re.search(failure.reason, ran.stderr)
