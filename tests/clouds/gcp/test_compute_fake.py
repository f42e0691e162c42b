"""The Compute Engine fake behaves as documented."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import Fault
from gce_catalog import load_catalog
from gce_fake import GceFake
from gce_process import GceProcess
from gce_records import ApiError, StockOut, Times

from cloud_tasks.testing import eventually

ZONE = "us-central1-a"
FAMILIES = "n1 n2 n2d n4 e2 c2 c2d c3 c3d c4 c4a t2a t2d m1 m2 m3 a2 a3 g2"
SLEEPER = "#!/bin/bash\nexec sleep 600\n"


def body(name: str = "m-1", machine_type: str = "e2-small", *, script: str = SLEEPER, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/{machine_type}",
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"},
            }
        ],
        "networkInterfaces": [{"network": "global/networks/default"}],
        "metadata": {"items": [{"key": "startup-script", "value": script}]},
        **fields,
    }


SPOT: dict[str, Any] = {"scheduling": {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce", guest_environment={"NOTES": str(tmp_path)}) as fake:
        yield fake


def inserted(fake: GceFake, *arguments: Any, **fields: Any) -> str:
    """Insert and wait; return the operation's error code."""
    operation = fake.cloud.insert(ZONE, body(*arguments, **fields), "")
    done = fake.cloud.wait(operation.name, 30)
    assert done.ended is not None
    return str(done.errors[0]["code"]) if done.errors else ""


def resources(fake: GceFake) -> tuple[list[str], list[str]]:
    state = fake.state()
    return [each["name"] for each in state["instances"]], state["disks"]


def test_catalog_has_current_families_in_three_regions() -> None:
    catalog = load_catalog()
    assert len(catalog.regions) >= 3
    wanted = set(FAMILIES.split())
    assert {name.partition("-")[0] for name in catalog.types["us-central1-a"]} | {"m2"} >= wanted
    for zones in catalog.regions.values():
        assert all("e2-standard-8" in catalog.types[zone] for zone in zones)


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_mb"),
    [
        ("e2-standard-8", 8, 32768),
        ("n1-standard-1", 1, 3840),
        ("n2-highmem-96", 96, 786432),
        ("c3d-highcpu-30", 30, 60416),
        ("c4-standard-8", 8, 30720),
        ("a2-highgpu-1g", 12, 87040),
    ],
)
def test_catalog_sizes_match_documentation(name: str, vcpus: int, memory_mb: int) -> None:
    machine_type = load_catalog().types["us-central1-a"][name]
    assert (machine_type.vcpus, machine_type.memory_mb) == (vcpus, memory_mb)


def test_insert_with_same_request_id_happens_once(fake: GceFake) -> None:
    first = fake.cloud.insert(ZONE, body(), "request-1")
    assert fake.cloud.insert(ZONE, body(), "request-1") is first
    fake.cloud.wait(first.name, 30)
    assert resources(fake) == (["m-1"], ["m-1"])
    with pytest.raises(ApiError, match="already exists"):
        fake.cloud.insert(ZONE, body(), "request-2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Not Allowed"}, "resource.name"),
        ({"machineType": "zones/z/machineTypes/none"}, "does not exist in zone"),
        ({"labels": {"key": "UPPER"}}, "resource.labels"),
        ({"networkInterfaces": []}, "network interface"),
        ({"disks": [{"initializeParams": {"sourceImage": "projects/x/global/images/y"}}]}, "was not found"),
        ({"netwrokInterfaces": []}, 'no field named "netwrokInterfaces"'),
        ({"disks": [{"sizeGb": "10"}]}, 'no field named "sizeGb"'),
        ({"disks": [{"initializeParams": {"diskSizeGb": "ten"}}]}, "Failed to parse"),
        ({"disks": [{"type": "SSD"}]}, "'SSD'. Valid values: PERSISTENT, SCRATCH"),
        ({"scheduling": {"provisioningModel": "PREEMPTIBLE"}}, "'PREEMPTIBLE'. Valid values: FLEX_START"),
        ({"scheduling": {"instanceTerminationAction": "STOPPED"}}, "'STOPPED'. Valid values: DELETE"),
        ({"networkInterfaces": [{"accessConfigs": [{"type": "NAT"}]}]}, "'NAT'. Valid values"),
        ({"networkInterfaces": [{"network": "global/networks/lab"}]}, "network resource cannot be found"),
        ({"machineType": f"zones/{ZONE}/machineTypes/t2a-standard-1"}, "boot disk architecture"),
        ({"machineType": f"zones/{ZONE}/machineTypes/z3-highmem-88-highlssd"}, "live migration"),
        ({"machineType": f"zones/{ZONE}/machineTypes/a2-highgpu-1g"}, "live migration"),
        ({"machineType": f"zones/{ZONE}/machineTypes/a3-highgpu-1g"}, "provisioning models SPOT"),
    ],
)
def test_insert_refuses_invalid_requests(fake: GceFake, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        fake.cloud.insert(ZONE, {**body(), **change}, "")
    assert resources(fake) == ([], [])


def test_operation_is_pending_before_it_runs(fake: GceFake) -> None:
    fake.cloud.times = Times(provision=60.0)
    operation = fake.cloud.insert(ZONE, body(), "")
    assert [operation.resource("p")["status"] for _ in range(3)] == ["PENDING", "RUNNING", "RUNNING"]
    fake.cloud.timeline.advance(61)
    eventually(lambda: operation.resource("p")["status"] == "DONE")


def test_instance_is_listed_after_the_lag(fake: GceFake) -> None:
    fake.cloud.times = Times(listing=60.0)
    inserted(fake)
    path = f"{fake.url}/compute/v1/projects/fake-project/aggregated/instances"
    for seconds, count in ((0, 0), (61, 1)):
        fake.cloud.timeline.advance(seconds)
        with urllib.request.urlopen(path, timeout=10) as answer:
            found = json.load(answer)["items"][f"zones/{ZONE}"].get("instances", ())
        assert len(found) == count


def test_stock_out_leaves_no_resources(fake: GceFake) -> None:
    fake.cloud.stock_outs = [StockOut(zone=ZONE, provisioning_model="on-demand")]
    assert inserted(fake) == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert resources(fake) == ([], [])
    assert inserted(fake, **SPOT) == ""


@pytest.mark.parametrize(
    ("limits", "region"),
    [({"CPUS": 5}, "us-central1"), ({"INSTANCES": 2}, "us-central1"), ({"CPUS_ALL_REGIONS": 4}, "")],
)
def test_insert_respects_quotas(fake: GceFake, limits: dict[str, float], region: str) -> None:
    (fake.cloud.quotas[region] if region else fake.cloud.global_quotas).update(limits)
    outcomes = [inserted(fake, f"m-{number}") for number in range(3)]
    assert outcomes == ["", "", "QUOTA_EXCEEDED"]
    assert resources(fake) == (["m-0", "m-1"], ["m-0", "m-1"])


def test_delete_instance_stops_all_processes(fake: GceFake) -> None:
    inserted(fake, script="#!/bin/bash\nsetsid sleep 600 &\nsleep 600\n")
    guest = fake.cloud.instance(ZONE, "m-1").guest
    assert guest is not None
    eventually(lambda: len(guest.processes()) >= 2)
    operation = fake.cloud.delete_instance(ZONE, "m-1", "")
    fake.cloud.wait(operation.name, 30)
    assert guest.processes() == set()
    assert resources(fake) == ([], [])


def test_delete_instance_keeps_disk_without_auto_delete(fake: GceFake) -> None:
    instance_body = body()
    instance_body["disks"][0]["autoDelete"] = False
    fake.cloud.wait(fake.cloud.insert(ZONE, instance_body, "").name, 30)
    with pytest.raises(ApiError, match="already being used"):
        fake.cloud.delete_disk(ZONE, "m-1", "")
    fake.cloud.wait(fake.cloud.delete_instance(ZONE, "m-1", "").name, 30)
    assert resources(fake) == ([], ["m-1"])
    fake.cloud.wait(fake.cloud.delete_disk(ZONE, "m-1", "").name, 30)
    assert resources(fake) == ([], [])


@pytest.mark.parametrize(("action", "left"), [("DELETE", []), ("STOP", ["m-1"])])
def test_preempt_signals_guest_and_applies_termination_action(
    fake: GceFake, tmp_path: Path, action: str, left: list[str]
) -> None:
    fake.cloud.times = Times(preemption=1.0, signal=0.0)
    script = "#!/bin/bash\ntrap 'touch $NOTES/signalled' TERM\ntouch $NOTES/ready\nwhile true; do sleep 0.1; done\n"
    scheduling = {"provisioningModel": "SPOT", "instanceTerminationAction": action}
    inserted(fake, script=script, scheduling=scheduling)
    eventually(lambda: (tmp_path / "ready").exists())
    assert fake.preempt(oldest=1) == ["m-1"]
    eventually(lambda: not [each for each in fake.cloud.instances.values() if each.status == "STOPPING"])
    assert (tmp_path / "signalled").exists()
    assert resources(fake) == (left, left)
    assert all(each.status == "TERMINATED" for each in fake.cloud.instances.values())


def test_instance_is_deleted_at_max_run_duration(fake: GceFake) -> None:
    scheduling = {"maxRunDuration": {"seconds": "3600"}, "instanceTerminationAction": "DELETE"}
    inserted(fake, scheduling=scheduling)
    fake.cloud.timeline.advance(3500)
    assert resources(fake) == (["m-1"], ["m-1"])
    fake.cloud.timeline.advance(200)
    eventually(lambda: resources(fake) == ([], []))


def test_fault_after_effect_keeps_effect(fake: GceFake) -> None:
    fake.server.fault = Fault(share=1.0, after_effect=1.0, status=503)
    path = f"{fake.url}/compute/v1/projects/fake-project/zones/{ZONE}/instances?requestId=1"
    call = urllib.request.Request(path, data=json.dumps(body()).encode(), method="POST")
    with pytest.raises(urllib.error.HTTPError, match="503") as struck:
        urllib.request.urlopen(call, timeout=10)
    struck.value.close()
    eventually(lambda: resources(fake)[0] == ["m-1"])


def test_unknown_filter_is_refused(fake: GceFake) -> None:
    path = f"{fake.url}/compute/v1/projects/fake-project/aggregated/instances?filter=labels.a%20LIKE%20b"
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        urllib.request.urlopen(path, timeout=10)
    refused.value.close()


def test_most_inserts_at_once_counts_overlapping_inserts(fake: GceFake) -> None:
    fake.cloud.times = Times(provision=0.2)
    operations = [fake.cloud.insert(ZONE, body(f"m-{number}"), "") for number in range(3)]
    for operation in operations:
        fake.cloud.wait(operation.name, 30)
    inserted(fake, "m-9")
    assert fake.cloud.most_inserts_at_once() == 3


def working_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_gce_process_is_controllable_and_ends_with_its_instances(tmp_path: Path) -> None:
    folder = tmp_path / "gce"
    with GceProcess(folder, times=Times(preemption=0.5, signal=0.0)) as fake:
        path = f"{fake.url}/compute/v1/projects/fake-project/zones/{ZONE}/instances"
        for name in ("m-1", "m-2"):
            call = urllib.request.Request(path, data=json.dumps(body(name, **SPOT)).encode(), method="POST")
            urllib.request.urlopen(call, timeout=10).close()
        eventually(lambda: [each["status"] for each in fake.state()["instances"]] == ["RUNNING", "RUNNING"])
        fake.stock_out({"zone": ZONE})
        fake.quotas(**{"us-central1": {"CPUS": 1}})
        assert fake.preempt("m-1") == ["m-1"]
        eventually(lambda: [each["name"] for each in fake.state()["instances"]] == ["m-2"])
        eventually(lambda: len(working_in(folder)) == 1)
    assert working_in(folder) == []
