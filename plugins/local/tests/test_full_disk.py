"""A full disk and deleted folders: instances are listed and terminated, and nothing is left running."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from local_requests import FOREVER, folder_of, request
from small_disk import small_disk

from cloud_tasks.errors import LaunchFailedError, LaunchRefusedError, ProviderError
from cloud_tasks.model import InstanceState
from cloud_tasks.plugin import ComputeContext
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.processes import instance_processes
from cloud_tasks_local.queue import SqliteQueue, queue_file
from cloud_tasks_local.settings import LocalSettings

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[LocalSettings]:
    """Return settings with the state folder on a small disk."""
    with small_disk(tmp_path / "disk", "size=2m,nr_inodes=200") as disk:
        yield LocalSettings(state_dir=disk / "state", shutdown_grace=0.5)


def fill(folder: Path) -> Callable[[], None]:
    """Use all space and all inodes; return a function that frees them."""
    used = folder / "used"
    used.mkdir(parents=True)
    with contextlib.suppress(OSError), (used / "space").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with contextlib.suppress(OSError):
        for number in range(1000):
            (used / str(number)).touch()
    return lambda: shutil.rmtree(used)


def test_instances_are_listed_and_terminated_on_a_full_disk(compute: LocalCompute, settings: LocalSettings) -> None:
    instance = compute.launch(request(FOREVER))
    folder = folder_of(settings, instance)
    free = fill(settings.state_dir)
    assert [found.state for found in compute.instances("job")] == [InstanceState.RUNNING]
    compute.terminate([instance.instance_id])
    assert not instance_processes(folder.path)
    assert compute.instances("job") == ()
    free()
    assert [found.state for found in compute.instances("job", include_terminated=True)] == [InstanceState.TERMINATED]
    assert folder.ended.exists()


def test_instance_that_exits_on_a_full_disk_is_not_listed(
    compute: LocalCompute, settings: LocalSettings, eventually: Eventually
) -> None:
    compute.launch(request("while [ ! -e ../go ]; do sleep 0.05; done\n"))
    (folder,) = settings.state_dir.glob("instances/*/*")
    (folder / "go").touch()
    fill(settings.state_dir)
    eventually(lambda: compute.instances("job") == ())


def test_launch_on_a_full_disk_is_refused_with_the_reason(compute: LocalCompute, settings: LocalSettings) -> None:
    free = fill(settings.state_dir)
    with pytest.raises(LaunchRefusedError, match="No space left on device"):
        compute.launch(request(FOREVER))
    assert compute.instances("job") == ()
    free()
    assert compute.launch(request(FOREVER)).state is InstanceState.RUNNING


def test_queue_on_a_full_disk_fails_for_a_time(settings: LocalSettings) -> None:
    queue = SqliteQueue(queue_file(settings.state_dir, "job"), lease=timedelta(seconds=60))
    with contextlib.closing(queue):
        queue.create()
        free = fill(settings.state_dir)
        with pytest.raises(ProviderError, match="full") as failed:
            queue.send([b"x" * 10_000] * 100)
        assert failed.value.transient
        free()
        assert list(queue.send([b"x" * 10_000] * 10)) == []


def test_instance_whose_folder_is_deleted_ends(tmp_path: Path, eventually: Eventually) -> None:
    settings = LocalSettings(state_dir=tmp_path / "state", shutdown_grace=0.5)
    compute = LocalCompute(settings, ComputeContext(job_id="job"))
    folder = folder_of(settings, compute.launch(request(FOREVER)))
    assert instance_processes(folder.path)
    shutil.rmtree(settings.state_dir)
    assert compute.instances(None) == ()
    eventually(lambda: not instance_processes(folder.path))


def test_launch_beyond_the_limit_of_open_files_fails_for_good(tmp_path: Path) -> None:
    settings = LocalSettings(state_dir=tmp_path / "state", shutdown_grace=0.5)
    compute = LocalCompute(settings, ComputeContext(job_id="job"))
    wanted = request(FOREVER)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(LaunchFailedError, match=r"too many open files \(limit: 128\); raise the limit with"):
            compute.launch(wanted)
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert compute.instances(None) == ()
