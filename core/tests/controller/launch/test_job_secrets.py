"""Channels of secrets: private files, and an encrypted object whose key is in the requests alone."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
from controller_fakes import ranked
from memory_commands import MemoryCommands
from shipped_jobs import Remote, shipped_job
from structlog.testing import capture_logs

from cloud_tasks.config import JobConfig, delivered_secrets, load_config, read_secrets, secret_deliveries
from cloud_tasks.controller import forget_secrets
from cloud_tasks.controller.launch.job_secrets import seal_secrets, temporary_secrets, write_secrets
from cloud_tasks.controller.launch.launch_request import LaunchRequestBuilder
from cloud_tasks.controller.launch.shipped_program import ShippedProgram
from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import Reach, setting
from cloud_tasks.sealing import unseal
from cloud_tasks.shipping import Bundle, Piece
from cloud_tasks.testing import MemoryProvider

SECRET = "SEKRET-4711"


@attrs.frozen(kw_only=True)
class QueueSettings:
    token: str | None = setting(help="Token", default=None, secret=True, worker=True)


def job_with_a_queue_that_needs_a_token(folder: Path, **run: Any) -> JobConfig:
    (folder / "work.py").touch()
    commands = MemoryCommands(queue={"settings": QueueSettings})
    commands.registry.register("remote", Remote())
    options = {"provider": "memory", "compute": "remote", "run.program": str(folder / "work.py"), "run.job_id": "work"}
    environ = {"CLOUD_TASKS_MEMORY_TOKEN": SECRET}
    return load_config(commands.registry, file=None, options=options | run, environ=environ)


def job_on_shared_files() -> JobConfig:
    traits = attrs.evolve(MemoryProvider().compute.traits, location=Reach.SHARED_FILES)
    options = {"provider": "memory", "run.secrets": "{a: 'env:A', b: 'env:B'}", "run.startup_script": "work"}
    registry = MemoryCommands(compute={"traits": traits}).registry
    return load_config(registry, file=None, options=options, environ={})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    return shipped_job(tmp_path, **{"run.secrets": "{token: 'env:TOKEN'}"})


@pytest.fixture
def program(config: JobConfig, tmp_path: Path) -> ShippedProgram:
    piece = Piece(name="environment-1.tar.gz", sha256="0" * 64, size=1, path=tmp_path / "x")
    bundle = Bundle(code=None, environment=piece, python=">=3.11", uv={"x86_64": piece}, files=(), left_out=())
    secrets = seal_secrets(config, {"token": SECRET.encode()})
    return ShippedProgram(config=config, bundle=bundle, staging=f"file://{tmp_path}/jobs", secrets=secrets)


def test_sealed_secrets_are_in_the_staging_and_their_key_in_the_sent_script(
    config: JobConfig, program: ShippedProgram, tmp_path: Path
) -> None:
    program.upload_secrets("work")
    (path,) = (tmp_path / "jobs").iterdir()
    content = path.read_bytes()
    assert SECRET.encode() not in content
    builder = LaunchRequestBuilder(config, program, job_id="work", queue_name="work", run_id="r", earlier_attempts=0)
    composed = builder.compose(ranked(), (), "token", None)
    assert "\nct_key=" not in composed.startup_script
    script = builder.finish(composed).startup_script
    (key,) = (line.removeprefix("ct_key=") for line in script.splitlines() if line.startswith("ct_key="))
    found = json.loads(unseal(content, bytes.fromhex(key)))
    assert found == {"files": {"token": base64.b64encode(SECRET.encode()).decode()}, "worker": {}}
    assert f"https://store.example/{path}?signature=" in script
    assert SECRET not in script + repr(program) + repr(composed)
    assert key not in repr(program)
    assert "CLOUD_TASKS_SECRETS_DIR=/" not in script
    forget_secrets(config, "work")
    assert not path.exists()
    # Nothing is noted any more, and nothing is there to be deleted.
    forget_secrets(config, "work")


def test_forget_secrets_deletes_the_objects_of_killed_runs_too(
    config: JobConfig, program: ShippedProgram, tmp_path: Path
) -> None:
    for _ in range(2):
        attrs.evolve(program, secrets=seal_secrets(config, {})).upload_secrets("work")
    assert len(list((tmp_path / "jobs").iterdir())) == 2
    with (tmp_path / ".cloud-tasks/work/sealed-secrets").open("a") as notes:
        notes.write("nosuch://bucket/secrets\n")
    with capture_logs() as logs:
        forget_secrets(config, "work")
    assert list((tmp_path / "jobs").iterdir()) == []
    (line,) = logs
    assert "nosuch://bucket/secrets" in line["event"]


def test_secrets_that_only_the_worker_needs_are_shipped_apart(tmp_path: Path) -> None:
    config = job_with_a_queue_that_needs_a_token(tmp_path)
    (found,) = secret_deliveries(config)
    assert found.describe("remote") == (
        "Secret memory.token: shipped to the workers, encrypted, as CLOUD_TASKS_MEMORY_TOKEN"
    )
    assert delivered_secrets(config) == {}
    sealed = seal_secrets(config, {})
    assert sealed is not None
    content = json.loads(unseal(sealed.content, sealed.key))
    assert content == {"files": {}, "worker": {"CLOUD_TASKS_MEMORY_TOKEN": SECRET}}
    assert SECRET not in repr(sealed)


def test_job_without_secrets_has_no_object(tmp_path: Path) -> None:
    assert seal_secrets(shipped_job(tmp_path), {}) is None


def test_write_secrets_replaces_the_files_of_an_earlier_run(tmp_path: Path) -> None:
    config = job_on_shared_files()
    folder = tmp_path / ".cloud-tasks" / "work" / "secrets"
    folder.mkdir(parents=True)
    (folder / "old").write_text("x")
    (folder / ".a.part").write_text("left by a killed run")
    write_secrets(config, "work", read_secrets(config, {b"A": b"\xff", b"B": b"2"}))
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {"a": b"\xff", "b": b"2"}
    assert [each.stat().st_mode & 0o777 for each in (folder, *folder.iterdir())] == [0o700, 0o600, 0o600]
    builder = LaunchRequestBuilder(config, "work", job_id="work", queue_name="work", run_id="r", earlier_attempts=0)
    request = builder.compose(ranked(), (), "token", None)
    assert f"export CLOUD_TASKS_SECRETS_DIR={folder}" in request.startup_script
    forget_secrets(config, "work")
    assert not folder.parent.exists()
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    with pytest.raises(CloudTasksError, match=f"{folder}: cannot write the secrets: "):
        write_secrets(config, "work", {"a": b""})


def test_secrets_with_a_script_of_its_own_are_refused_where_no_files_are_shared(tmp_path: Path) -> None:
    config = shipped_job(tmp_path, **{"run.secrets": "{a: 'env:A'}", "run.program": None, "run.startup_script": "work"})
    with pytest.raises(CloudTasksError) as refused:
        secret_deliveries(config)
    assert str(refused.value) == (
        '--secrets: run.secrets: nothing brings them to instances of "remote" with a startup script of your own; use '
        "run.program or run.command instead, or remove it and let the script fetch them from a secret store into a "
        "folder that it exports as CLOUD_TASKS_SECRETS_DIR"
    )


def test_write_secrets_replaces_what_tasks_made_of_the_folder(tmp_path: Path) -> None:
    config = job_on_shared_files()
    folder, own = tmp_path / ".cloud-tasks/work/secrets", tmp_path / "own"
    (folder / "token" / "deep").mkdir(parents=True)
    write_secrets(config, "work", {"token": b"x"})
    assert [each.name for each in folder.iterdir()] == ["token"]
    own.mkdir(mode=0o755)
    (own / "file").touch()
    forget_secrets(config, "work")
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(own)
    write_secrets(config, "work", {"token": b"x"})
    assert not folder.is_symlink()
    assert [each.name for each in own.iterdir()] == ["file"]


def test_temporary_secrets_of_a_process_that_was_killed_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    child = subprocess.Popen(["true"])
    child.wait()
    for name in (
        f"cloud-tasks-secrets-{child.pid}-a",
        f"cloud-tasks-secrets-{os.getppid()}-b",
        "cloud-tasks-secrets-c",
    ):
        (tmp_path / name).mkdir()
    with temporary_secrets({"token": b"x"}) as folder:
        assert (Path(folder) / "token").read_bytes() == b"x"
        left = {each.name.rpartition("-")[2] for each in tmp_path.iterdir()} - {Path(folder).name.rpartition("-")[2]}
    assert left == {"b", "c"}
