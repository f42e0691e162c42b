"""Compute Engine with the real SDK: complete termination, and retries against a failing cloud."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cloud_requests import insistently
from fake_server import Fault
from gce_fake import GceFake
from gce_records import Times
from gce_requests import launch_request, offer, open_compute, remaining
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import Compute, LocatedCompute
from cloud_tasks.testing import eventually
from cloud_tasks_gcp.compute.clients import Clients
from cloud_tasks_gcp.compute.operations import wait_for_operation
from cloud_tasks_gcp.settings import GcpSettings


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    times = Times(guest_shutdown=0.5, preemption=1.5)
    with GceFake(tmp_path / "gce", times=times, page_size=5, guest_environment={"NOTES": str(tmp_path)}) as fake:
        yield fake


@pytest.fixture
def compute(fake: GceFake) -> Iterator[Compute]:
    with open_compute(fake) as compute:
        yield compute


# -- termination --


def state_of(compute: Compute, name: str) -> InstanceState | None:
    return next((each.state for each in compute.instances("job") if each.instance_id == name), None)


def test_terminate_deletes_instance_that_powered_itself_off(fake: GceFake, compute: Compute) -> None:
    name = compute.launch(launch_request(startup_script="#!/bin/bash\npoweroff\nsleep 600\n")).instance_id
    eventually(lambda: state_of(compute, name) is InstanceState.STOPPED)
    assert remaining(fake) == ([name], [name])
    compute.terminate([name])
    assert remaining(fake) == ([], [])


@pytest.mark.parametrize(
    "script", ["#!/bin/bash\necho apt fails\nexit 1\n", "#!/usr/bin/env python3\nimport nowhere\n"]
)
def test_instance_whose_script_failed_powers_off_without_a_controller(
    script: str, fake: GceFake, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TASKS_BOOT_GRACE", "1")
    name = compute.launch(launch_request(startup_script=script)).instance_id
    eventually(lambda: state_of(compute, name) is InstanceState.STOPPED)
    first, *_, last = compute.console_log(name).splitlines()[1:]
    assert "apt fails" in first or "Traceback" in first
    assert last.endswith("cloud-tasks: the startup script ended, and no worker runs; this instance ends")


def test_terminate_deletes_disk_without_auto_delete(fake: GceFake, compute: Compute) -> None:
    name = compute.launch(launch_request()).instance_id
    (instance,) = fake.cloud.instances.values()
    instance.body["disks"][0]["autoDelete"] = False
    compute.terminate([name])
    assert remaining(fake) == ([], [])


@pytest.mark.parametrize("kind", ["instance", "disk"])
def test_terminate_of_busy_resource_is_transient(fake: GceFake, compute: Compute, kind: str) -> None:
    names = [compute.launch(launch_request()).instance_id for _ in range(3)]
    if kind == "disk":
        fake.cloud.instances["us-central1-a", names[0]].body["disks"][0]["autoDelete"] = False
        compute.terminate(names[1:])
        fake.cloud.wait(fake.cloud.delete_instance("us-central1-a", names[0], "").name, 20)
    fake.cloud.not_ready[names[0]] = 1
    with pytest.raises(ProviderError, match=rf"cannot delete the {kind} {names[0]}: resource") as failed:
        compute.terminate(names)
    assert failed.value.transient
    compute.terminate(names)
    assert remaining(fake) == ([], [])


def test_terminate_leaves_unmanaged_instance_of_same_name(fake: GceFake, compute: Compute) -> None:
    name = compute.launch(launch_request()).instance_id
    (instance,) = fake.cloud.instances.values()
    instance.labels.clear()
    compute.terminate([name])
    assert remaining(fake) == ([name], [name])


def test_terminate_deletes_others_after_failed_deletion(fake: GceFake, compute: Compute) -> None:
    names = [compute.launch(launch_request()).instance_id for _ in range(3)]
    fake.cloud.undeletable = {names[0]}
    with pytest.raises(ProviderError, match=names[0]) as failed:
        compute.terminate(names)
    assert failed.value.transient
    assert remaining(fake) == ([names[0]], [names[0]])
    fake.cloud.undeletable = set()
    compute.terminate(names)
    assert remaining(fake) == ([], [])


@pytest.fixture
def apart(fake: GceFake) -> Iterator[Compute]:
    """Another process, with the job's records only."""
    with open_compute(fake) as compute:
        yield compute


def paths(fake: GceFake, since: int) -> list[str]:
    return [path.rpartition("/projects/")[2].partition("/")[2] for _, path in fake.server.calls[since:]]


def note_zones(compute: Compute, zones: Mapping[str, str]) -> None:
    assert isinstance(compute, LocatedCompute)
    compute.note_zones(zones)


@pytest.mark.parametrize("zone", ["us-central1-a", "europe-west1-b"])
def test_terminate_by_record_needs_no_listing_and_no_other_zone(fake: GceFake, apart: Compute, zone: str) -> None:
    with open_compute(fake) as compute:
        names = [compute.launch(launch_request(offer(zone=zone))).instance_id for _ in range(2)]
    fake.cloud.instances[zone, names[0]].body["disks"][0]["autoDelete"] = False
    fake.unreachable_zones = set(fake.cloud.catalog.zones)
    before = len(fake.server.calls)
    note_zones(apart, dict.fromkeys(names, zone))
    apart.terminate(names)
    assert remaining(fake) == ([], [])
    assert not [path for path in paths(fake, before) if path.startswith("aggregated")]


def test_terminate_by_record_leaves_unmanaged_instance_of_same_name(fake: GceFake, apart: Compute) -> None:
    with open_compute(fake) as compute:
        name = compute.launch(launch_request()).instance_id
    (instance,) = fake.cloud.instances.values()
    instance.labels.clear()
    note_zones(apart, {name: "us-central1-a", "ct-job-gone": "us-central1-a"})
    apart.terminate([name, "ct-job-gone"])
    assert remaining(fake) == ([name], [name])


def test_terminate_deletes_known_instances_beside_one_that_cannot_be_found(fake: GceFake, apart: Compute) -> None:
    with open_compute(fake) as compute:
        known, unknown = (compute.launch(launch_request(offer(zone=z))).instance_id for z in ZONES)
    fake.unreachable_zones = {ZONES[1]}
    note_zones(apart, {known: ZONES[0]})
    with pytest.raises(ProviderError, match=f"cannot find {unknown}: no answer from {ZONES[1]}") as failed:
        apart.terminate([unknown, known])
    assert failed.value.transient
    assert remaining(fake) == ([unknown], [unknown])


ZONES = ("us-central1-a", "europe-west1-b")


def test_preempted_instance_gets_notice_and_is_deleted_with_disk(
    fake: GceFake, compute: Compute, tmp_path: Path
) -> None:
    script = (
        "#!/usr/bin/env python3\n"
        "import os, pathlib, signal, sys, time\n"
        "from cloud_tasks_gcp.instance_side import GceInstanceSide\n"
        "notes = pathlib.Path(os.environ['NOTES'])\n"
        "signal.signal(signal.SIGTERM, lambda *_: (notes / 'signalled').touch())\n"
        "side = GceInstanceSide()\n"
        "(notes / 'name').write_text(side.identity().instance_id)\n"
        "while side.termination_notice() is None: time.sleep(0.01)\n"
        "(notes / 'noticed').write_text(side.termination_notice().reason)\n"
        "time.sleep(600)\n"
    )
    name = compute.launch(launch_request(offer(spot=True), startup_script=script)).instance_id
    eventually(lambda: (tmp_path / "name").exists() and (tmp_path / "name").read_text() == name)
    fake.preempt(name)
    eventually(lambda: (tmp_path / "noticed").exists() and (tmp_path / "signalled").exists())
    eventually(lambda: remaining(fake) == ([], []))
    assert compute.instances("job") == ()


def test_console_log_returns_end_of_output(compute: Compute) -> None:
    script = '#!/bin/bash\nfor n in {1..4000}; do echo "line $n of a long output"; done; echo finished\nsleep 600\n'
    name = compute.launch(launch_request(startup_script=script)).instance_id
    eventually(lambda: compute.console_log(name).rstrip().endswith("finished"))
    assert len(compute.console_log(name)) == 64 * 1024


def test_console_log_of_unknown_instance_is_empty(compute: Compute) -> None:
    assert compute.console_log("ct-job-unknown") == ""


def test_terminate_deletes_in_parallel(fake: GceFake, compute: Compute) -> None:
    stubborn = "#!/bin/bash\ntrap '' TERM\nwhile true; do sleep 0.2; done\n"
    names = [compute.launch(launch_request(startup_script=stubborn)).instance_id for _ in range(5)]
    compute.terminate(names)
    deletions = [each for each in fake.cloud.operations.values() if each.kind == "delete"]
    assert len(deletions) == 5
    assert max(each.began for each in deletions) < min(each.ended or 0.0 for each in deletions)


# -- failing cloud --


@pytest.mark.parametrize("status", [503, 500, None])
def test_launch_and_terminate_with_faults_leave_no_duplicate_or_leftover(
    fake: GceFake, compute: Compute, status: int | None
) -> None:
    fake.server.fault = Fault(share=0.2, after_effect=0.5, status=status)
    requests = [launch_request() for _ in range(12)]
    with ThreadPoolExecutor(6) as threads:
        started: list[Instance] = list(
            threads.map(lambda request: insistently(lambda: compute.launch(request)), requests)
        )
    names = sorted(instance.instance_id for instance in started)
    assert sorted(each.instance_id for each in insistently(lambda: compute.instances("job"))) == names
    assert sorted(record.name for record in fake.cloud.inserts) == names
    insistently(lambda: compute.terminate(names))
    assert fake.server.struck > 0
    assert remaining(fake) == ([], [])


def test_clients_are_never_shared_between_threads() -> None:
    clients = Clients(GcpSettings(compute_endpoint="http://127.0.0.1:1"), "p")
    held: set[int] = set()
    lock, collisions = threading.Lock(), []

    def take(_: int) -> None:
        with clients.acquire() as one:
            with lock:
                if id(one) in held:
                    collisions.append(one)
                held.add(id(one))
            time.sleep(0)
            with lock:
                held.discard(id(one))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(200)))
    clients.close()
    assert collisions == []
    with pytest.raises(ProviderError, match="closed"), clients.acquire():
        pytest.fail("acquired after close")


def test_compute_after_close_raises(fake: GceFake) -> None:
    with open_compute(fake) as compute:
        pass
    with pytest.raises(ProviderError, match="closed"):
        compute.instances("job")


def test_wait_for_operation_times_out(fake: GceFake) -> None:
    clients = Clients(GcpSettings(compute_endpoint=fake.url), "p")
    with clients.acquire() as one, pytest.raises(ProviderError, match="still running") as late:
        wait_for_operation(
            one,
            sdk.Operation(name="op", status="RUNNING"),
            project="fake-project",
            zone="us-central1-a",
            what="start it",
            timeout=timedelta(0),
        )
    clients.close()
    assert late.value.transient
