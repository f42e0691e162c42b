"""No other user of the machine can read a local job, and its tasks see no secret of the controller."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import attrs
import pytest
from local_requests import request

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import ComputeContext
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.private_files import make_private, write_private
from cloud_tasks_local.queue import SqliteQueue
from cloud_tasks_local.settings import LocalSettings


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_state_folder_is_for_its_owner_only(
    settings: LocalSettings, compute: LocalCompute, eventually: Callable[[Callable[[], object]], None]
) -> None:
    settings.state_dir.mkdir(mode=0o755)  # as an earlier version created it
    queue = SqliteQueue(settings.state_dir / "queues" / "job.sqlite3", lease=timedelta(seconds=60))
    queue.create()
    queue.send([b"secret"])
    compute.launch(request("echo result\n"))
    eventually(lambda: list(settings.state_dir.glob("instances/*/*/ended.json")))
    assert mode(settings.state_dir) == 0o700
    queue.claim()
    compute.terminate([folder.name for folder in settings.state_dir.glob("instances/*/*")])
    files = [path for path in settings.state_dir.rglob("*") if path.is_file()]
    folders = [path for path in settings.state_dir.rglob("*") if path.is_dir()]
    assert {"startup.sh", "console.log", "instance.json", "job.sqlite3"} <= {path.name for path in files}
    assert {path.name: oct(mode(path)) for path in (*files, *folders) if mode(path) & 0o077} == {}
    queue.close()


def test_mark_of_a_termination_is_for_its_owner_only(settings: LocalSettings, compute: LocalCompute) -> None:
    instance = compute.launch(request("sleep 600\n"))
    compute.terminate([instance.instance_id])
    (mark,) = settings.state_dir.rglob("terminating")
    assert mode(mark) == 0o600


def test_claim_creates_folders_for_their_owner_only(tmp_path: Path) -> None:
    queue = SqliteQueue(tmp_path / "state" / "queues" / "job.sqlite3", lease=timedelta(seconds=60))
    queue.claim()
    assert [mode(path) for path in (tmp_path / "state", tmp_path / "state" / "queues")] == [0o700, 0o700]
    queue.close()


def test_make_private_leaves_what_is_above_the_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path / "a" / "b")
    assert [mode(path) for path in (tmp_path, tmp_path / "a" / "b")] == [0o755, 0o700]


def test_write_private_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError, match="exists"):
        write_private(tmp_path / "link", "x")
    assert (tmp_path / "target").read_text() == "precious"


def test_queue_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "queues").mkdir()
    (tmp_path / "queues" / "job.sqlite3").symlink_to(tmp_path / "target")
    with pytest.raises(ProviderError, match="cannot create"):
        SqliteQueue(tmp_path / "queues" / "job.sqlite3", lease=timedelta(seconds=60)).create()
    assert not (tmp_path / "target").exists()


def _environment(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_tasks_see_no_secret_variable(
    settings: LocalSettings,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[[Callable[[], object]], None],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("WEBHOOK_URL", "https://hooks.example.org/SECRET")
    monkeypatch.setenv("CLOUD_TASKS_NATS_TOKEN", "SECRET")
    monkeypatch.setenv("RMS_CLOUD_TASKS_NATS_TOKEN", "SECRET")
    monkeypatch.setenv("ORDINARY", "kept")
    context = ComputeContext(job_id="job", secret_variables=("WEBHOOK_URL",))
    compute = LocalCompute(settings, context)
    compute.launch(request(f"env > {tmp_path}/draft; mv {tmp_path}/draft {tmp_path}/env\n"))
    eventually((tmp_path / "env").exists)
    seen = _environment((tmp_path / "env").read_text())
    assert seen["ORDINARY"] == "kept"
    assert "SECRET" not in str(seen)


def test_script_inherits_no_variable_of_the_controller_but_gets_the_secrets_of_the_request(
    settings: LocalSettings,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[[Callable[[], object]], None],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CLOUD_TASKS_DEPOT_URL", "the controller's")
    monkeypatch.setenv("RMS_CLOUD_TASKS_JOB_ID", "the controller's")
    monkeypatch.setenv("CLOUD_TASKS_DEPOT_TOKEN", "the controller's")
    compute, mark = LocalCompute(settings, ComputeContext(job_id="job")), uuid4().hex
    show = f"env > {tmp_path}/draft; mv {tmp_path}/draft {tmp_path}/env; while true; do sleep 1; done\n"
    instance = compute.launch(attrs.evolve(request(show), secrets={"CLOUD_TASKS_DEPOT_TOKEN": f"{mark} ä $x '"}))
    eventually((tmp_path / "env").exists)
    seen = _environment((tmp_path / "env").read_text())
    own = {"INSTANCE_ID", "SUBMIT_DIR", "LOCAL_STATE_DIR", "LOCAL_INSTANCE", "PROCESS_NAME", "BOOT_UPTIME"}
    assert {name for name in seen if "CLOUD_TASKS_" in name} == {
        *(f"CLOUD_TASKS_{name}" for name in own),
        "CLOUD_TASKS_DEPOT_TOKEN",
    }
    assert seen["CLOUD_TASKS_DEPOT_TOKEN"] == f"{mark} ä $x '"
    (folder,) = (settings.state_dir / "instances").glob("*/*")
    holders = [each.parent for each in Path("/proc").glob("[0-9]*/environ") if mark.encode() in _read(each)]
    assert {(each / "comm").read_text().strip() for each in holders} <= {"bash", "sleep"}
    assert not any(mark.encode() in _read(each) for each in Path("/proc").glob("[0-9]*/cmdline"))
    assert not any(mark.encode() in _read(each) for each in settings.state_dir.rglob("*") if each.is_file())
    assert str(folder) == seen["CLOUD_TASKS_LOCAL_INSTANCE"]
    compute.terminate([instance.instance_id])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
