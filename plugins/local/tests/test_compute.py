"""Instances as real processes; what every compute has to do is in test_conformance.py."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from cloud_tasks.errors import LaunchRefused, ProviderError, RefusalScope
from cloud_tasks.model import (
    BootDisk,
    Instance,
    InstanceState,
    LaunchRequest,
    Offer,
    OfferRequest,
    Purchase,
)
from cloud_tasks.plugin import ComputeContext
from cloud_tasks_local.compute import LocalCompute
from cloud_tasks_local.folder import InstanceFolder
from cloud_tasks_local.pricing import FlatPricing
from cloud_tasks_local.processes import belonging, signal_exactly, start_time
from cloud_tasks_local.settings import LocalSettings

Eventually = Callable[[Callable[[], object]], None]
FOREVER = "while true; do sleep 1000; done\n"


def request(script: str, *, token: str = "token", job: str = "job", purchase: Purchase = Purchase.ON_DEMAND,
            max_lifetime: timedelta | None = None) -> LaunchRequest:
    settings = LocalSettings()
    instance_type = LocalCompute(settings, ComputeContext(job_id=job)).instance_types()[0]
    disk = BootDisk(disk_type="", size_gb=10)
    wanted = OfferRequest(instance_type=instance_type, zone="local-a", purchase=purchase, boot_disk=disk)
    (offer,) = FlatPricing(settings).price([wanted])
    assert isinstance(offer, Offer)
    return LaunchRequest(
        client_token=token, job_id=job, offer=offer, startup_script=script, labels={"run": "r1"},
        max_lifetime=max_lifetime,
    )


def folder_of(settings: LocalSettings, instance: Instance) -> InstanceFolder:
    return InstanceFolder(settings.state_dir / "instances" / instance.job_id / instance.instance_id)


def state_of(compute: LocalCompute, instance_id: str) -> InstanceState:
    (state,) = [i.state for i in compute.instances(None, include_terminated=True) if i.instance_id == instance_id]
    return state


def is_running(pid: int) -> bool:
    return start_time(pid) is not None


def numbers_in(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_the_script_runs_with_this_python_in_a_folder_of_its_own(
    compute: LocalCompute, settings: LocalSettings, eventually: Eventually
) -> None:
    instance = compute.launch(
        request('command -v python3; pwd; echo "$CLOUD_TASKS_INSTANCE_ID"; echo "$CLOUD_TASKS_SUBMIT_DIR"; echo done >&2\n')
    )
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    lines = compute.console_log(instance.instance_id).splitlines()
    work = folder_of(settings, instance).work
    assert lines[:5] == [
        str(Path(sys.executable).parent / "python3"), str(work), instance.instance_id, str(Path.cwd()), "done",
    ]


def test_an_instance_whose_script_ended_is_terminated_and_its_exit_code_is_told(
    compute: LocalCompute, eventually: Eventually
) -> None:
    instance = compute.launch(request("exit 3\n"))
    eventually(lambda: state_of(compute, instance.instance_id) is InstanceState.TERMINATED)
    assert list(compute.instances("job")) == []
    assert "exit code 3" in compute.console_log(instance.instance_id)


def test_what_a_script_left_behind_ends_with_it(compute: LocalCompute, tmp_path: Path, eventually: Eventually) -> None:
    pids = tmp_path / "pids"
    compute.launch(request(f"setsid sleep 1000 & echo $! >> {pids}\nsleep 1000 & echo $! >> {pids}\n"))
    eventually(lambda: not compute.instances("job"))
    assert len(numbers_in(pids)) == 2
    assert [pid for pid in numbers_in(pids) if is_running(pid)] == []


def test_terminate_ends_children_that_hide(compute: LocalCompute, tmp_path: Path, eventually: Eventually) -> None:
    pids = tmp_path / "pids"
    hide = (
        f"setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' &\n"
        f"env -i setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' &\n"
        f"env -i sh -c 'setsid sh -c \"echo \\$\\$ >> {pids}; trap : TERM; while true; do sleep 0.1; done\" & exit' &\n"
    )
    instance = compute.launch(request(hide + "trap : TERM\n" + FOREVER))
    eventually(lambda: len(numbers_in(pids)) == 3)
    compute.terminate([instance.instance_id])
    assert [pid for pid in numbers_in(pids) if is_running(pid)] == []
    assert state_of(compute, instance.instance_id) is InstanceState.TERMINATED


def test_terminate_gives_the_script_time_to_end_by_itself(compute: LocalCompute, eventually: Eventually) -> None:
    instance = compute.launch(request("trap 'echo goodbye; exit' TERM\necho ready\nwhile true; do sleep 0.01; done\n"))
    eventually(lambda: "ready" in compute.console_log(instance.instance_id))
    compute.terminate([instance.instance_id])
    assert "goodbye" in compute.console_log(instance.instance_id)


def test_terminate_touches_no_other_instance(compute: LocalCompute) -> None:
    first = compute.launch(request(FOREVER, token="a"))
    second = compute.launch(request(FOREVER, token="b"))
    compute.terminate([first.instance_id, "local-unknown", "../.."])
    assert [instance.instance_id for instance in compute.instances("job")] == [second.instance_id]


def test_an_instance_is_found_and_ended_by_a_process_that_did_not_start_it(
    compute: LocalCompute, settings: LocalSettings
) -> None:
    launched = compute.launch(request(FOREVER))
    program = (
        "import sys\n"
        "from cloud_tasks.plugin import ComputeContext\n"
        "from cloud_tasks_local.compute import LocalCompute\n"
        "from cloud_tasks_local.settings import LocalSettings\n"
        "compute = LocalCompute(LocalSettings(state_dir=sys.argv[1]), ComputeContext(job_id='job'))\n"
        "(instance,) = compute.instances('job')\n"
        "print(instance.instance_id, instance.client_token, instance.labels['run'])\n"
        "compute.terminate([instance.instance_id])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(settings.state_dir)], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [launched.instance_id, "token", "r1"]
    assert state_of(compute, launched.instance_id) is InstanceState.TERMINATED


def test_a_launcher_killed_at_any_moment_starts_the_script_at_most_once(
    compute: LocalCompute, settings: LocalSettings, tmp_path: Path, eventually: Eventually
) -> None:
    program = (
        "import pickle, sys\n"
        "from cloud_tasks.plugin import ComputeContext\n"
        "from cloud_tasks_local.compute import LocalCompute\n"
        "settings, request = pickle.load(sys.stdin.buffer)\n"
        "compute = LocalCompute(settings, ComputeContext(job_id='job'))\n"
        "print('ready', flush=True)\n"
        "compute.launch(request)\n"
    )
    import pickle

    generator = random.Random(5)
    for number in range(8):
        started = tmp_path / f"started-{number}"
        wanted = request(f"echo $$ >> {started}\n{FOREVER}", token=f"t{number}")
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as launcher:
            assert launcher.stdin is not None
            assert launcher.stdout is not None
            launcher.stdin.write(pickle.dumps((settings, wanted)))
            launcher.stdin.close()
            launcher.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                launcher.wait(timeout=generator.uniform(0.0, 0.06)) or launcher.wait(timeout=0)
            launcher.kill()
        instance = compute.launch(wanted)
        eventually(lambda started=started: numbers_in(started))
        assert compute.launch(wanted).instance_id == instance.instance_id
        assert len(numbers_in(started)) == 1
    assert len(compute.instances("job")) == 8
