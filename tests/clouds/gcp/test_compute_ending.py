"""Compute Engine through the real SDK: thorough ends, and timeout with a cloud that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import google.auth.credentials
import pytest
from cloud_requests import insistently
from cloud_wire import Fault
from gce_fake import GceFake
from gce_requests import offer, opened, remaining, wanted
from google.cloud import compute_v1 as sdk

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Instance, InstanceState
from cloud_tasks.plugin import Compute
from cloud_tasks.testing import eventually
from cloud_tasks_gcp.compute.clients import Clients
from cloud_tasks_gcp.compute.operations import wait_for_operation

NOBODY: Any = google.auth.credentials.AnonymousCredentials  # the SDK does not annotate it
NOBODY = NOBODY()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce", page_size=5, guest_environment={"NOTES": str(tmp_path)}) as fake:
        yield fake


@pytest.fixture
def compute(fake: GceFake) -> Iterator[Compute]:
    with opened(fake) as compute:
        yield compute


# -- ending --


def state_of(compute: Compute, name: str) -> InstanceState | None:
    return next((each.state for each in compute.instances("job") if each.instance_id == name), None)


def test_a_machine_that_switched_itself_off_is_listed_and_removed(fake: GceFake, compute: Compute) -> None:
    name = compute.launch(wanted(startup_script="#!/bin/bash\npoweroff\nsleep 600\n")).instance_id
    eventually(lambda: state_of(compute, name) is InstanceState.STOPPED)
    assert remaining(fake) == ([name], [name])
    compute.terminate([name])
    assert remaining(fake) == ([], [])


def test_a_disk_that_does_not_go_with_its_instance_is_removed_all_the_same(fake: GceFake, compute: Compute) -> None:
    name = compute.launch(wanted()).instance_id
    (instance,) = fake.cloud.instances.values()
    instance.body["disks"][0]["autoDelete"] = False
    compute.terminate([name])
    assert remaining(fake) == ([], [])


def test_a_machine_of_somebody_else_is_not_ended_by_its_name(fake: GceFake, compute: Compute) -> None:
    name = compute.launch(wanted()).instance_id
    (instance,) = fake.cloud.instances.values()
    instance.labels.clear()
    compute.terminate([name])
    assert remaining(fake) == ([name], [name])


def test_one_deletion_that_fails_does_not_keep_the_others_alive(fake: GceFake, compute: Compute) -> None:
    names = [compute.launch(wanted()).instance_id for _ in range(3)]
    fake.cloud.undeletable = {names[0]}
    with pytest.raises(ProviderError, match=names[0]) as failed:
        compute.terminate(names)
    assert failed.value.transient
    assert remaining(fake) == ([names[0]], [names[0]])
    fake.cloud.undeletable = set()
    compute.terminate(names)
    assert remaining(fake) == ([], [])


def test_a_preempted_machine_is_warned_then_gone_with_its_disk(fake: GceFake, compute: Compute, tmp_path: Path) -> None:
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
    name = compute.launch(wanted(offer(spot=True), startup_script=script)).instance_id
    eventually(lambda: (tmp_path / "name").exists() and (tmp_path / "name").read_text() == name)
    fake.preempt(name)
    eventually(lambda: (tmp_path / "noticed").exists() and (tmp_path / "signalled").exists())
    eventually(lambda: remaining(fake) == ([], []))
    assert compute.instances("job") == ()


def test_the_console_is_the_end_of_what_was_printed(compute: Compute) -> None:
    script = '#!/bin/bash\nfor n in {1..4000}; do echo "line $n of a long output"; done; echo finished\nsleep 600\n'
    name = compute.launch(wanted(startup_script=script)).instance_id
    eventually(lambda: compute.console_log(name).rstrip().endswith("wait_for_operation"))
    assert len(compute.console_log(name)) == 64 * 1024


def test_there_is_no_console_of_what_is_not_there(compute: Compute) -> None:
    assert compute.console_log("ct-job-unknown") == ""


def test_deletions_run_side_by_side(fake: GceFake, compute: Compute) -> None:
    stubborn = "#!/bin/bash\ntrap '' TERM\nwhile true; do sleep 0.2; done\n"
    names = [compute.launch(wanted(startup_script=stubborn)).instance_id for _ in range(5)]
    compute.terminate(names)
    deletions = [each for each in fake.cloud.operations.values() if each.kind == "delete"]
    assert len(deletions) == 5
    assert max(each.began for each in deletions) < min(each.ended or 0.0 for each in deletions)


# -- a cloud that fails --


@pytest.mark.parametrize("status", [503, 500, None])
def test_with_every_fifth_call_failing_nothing_is_started_twice_and_nothing_is_left(
    fake: GceFake, compute: Compute, status: int | None
) -> None:
    fake.wire.fault = Fault(share=0.2, after_effect=0.5, status=status)
    requests = [wanted() for _ in range(12)]
    with ThreadPoolExecutor(6) as threads:
        started: list[Instance] = list(
            threads.map(lambda request: insistently(lambda: compute.launch(request)), requests)
        )
    names = sorted(instance.instance_id for instance in started)
    assert sorted(each.instance_id for each in insistently(lambda: compute.instances("job"))) == names
    assert sorted(record.name for record in fake.cloud.inserts) == names
    insistently(lambda: compute.terminate(names))
    assert fake.wire.struck > 0
    assert remaining(fake) == ([], [])


def test_no_two_threads_hold_one_set_of_clients() -> None:
    clients = Clients(NOBODY, "http://127.0.0.1:1")
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
        pytest.fail("it was closed")


def test_a_call_after_closing_is_refused(fake: GceFake) -> None:
    with opened(fake) as compute:
        pass
    with pytest.raises(ProviderError, match="closed"):
        compute.instances("job")


def test_an_operation_that_never_ends_is_given_up(fake: GceFake) -> None:
    clients = Clients(NOBODY, fake.url)
    with clients.acquire() as one, pytest.raises(ProviderError, match="still under way") as late:
        wait_for_operation(
            one,
            sdk.Operation(name="op", status="RUNNING"),
            project="stand-in",
            zone="us-central1-a",
            what="start it",
            timeout=timedelta(0),
        )
    clients.close()
    assert late.value.transient
