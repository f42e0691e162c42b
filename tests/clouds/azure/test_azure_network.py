"""Resource groups and networks of jobs."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import body_of, opened, remaining, wanted

from cloud_tasks.testing import eventually
from cloud_tasks_azure.compute.tags import group_name, network_name


def test_concurrent_launches_create_one_group_and_network(fake: ArmFake) -> None:
    fake.cloud.times = attrs.evolve(fake.cloud.times, provision=0.5)
    with opened(fake) as compute, ThreadPoolExecutor(6) as threads:
        launched = list(threads.map(compute.launch, [wanted() for _ in range(6)]))
        assert len({each.instance_id for each in launched}) == 6
        assert fake.state()["max_concurrent_creations"] >= 4
    calls = [path for method, path in fake.server.calls if method == "PUT" and "virtualMachines" not in path]
    assert len(calls) == 3, calls


def test_group_is_deleted_with_the_last_vm_of_the_job(fake: ArmFake) -> None:
    with opened(fake) as compute:
        names = [compute.launch(wanted()).instance_id for _ in range(2)]
        compute.terminate(names[:1])
    assert remaining(fake)[2] == ["cloud-tasks-job"]
    with opened(fake) as later:
        later.terminate(names)
    eventually(lambda: remaining(fake) == ([], [], []))


def test_group_with_other_resources_is_kept(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        group = f"/subscriptions/{fake.cloud.subscription}/resourceGroups/cloud-tasks-job"
        theirs = f"{group}/providers/Microsoft.Network/networkSecurityGroups/theirs"
        fake.cloud.put(theirs, "Microsoft.Network/networkSecurityGroups", {"location": "eastus", "tags": {}})
        compute.terminate([name])
    assert remaining(fake)[2] == ["cloud-tasks-job"]
    assert "networkSecurityGroups/theirs" in remaining(fake)[1]


def test_configured_group_is_kept_and_its_job_network_deleted(fake: ArmFake) -> None:
    fake.cloud.put_group("shared", {"location": "westeurope"})
    with opened(fake, resource_group="shared") as compute:
        name = compute.launch(wanted()).instance_id
        assert "/resourceGroups/shared/" in body_of(fake, name)["id"]
        compute.terminate([name])
    assert remaining(fake) == ([], [], ["shared"])


def test_configured_subnet_is_used_and_kept(fake: ArmFake) -> None:
    fake.cloud.put_group("shared", {"location": "eastus"})
    group = f"/subscriptions/{fake.cloud.subscription}/resourceGroups/shared"
    network = f"{group}/providers/Microsoft.Network/virtualNetworks/net"
    body = {"location": "eastus", "tags": {}, "properties": {"subnets": [{"name": "mine"}]}}
    fake.cloud.put(network, "Microsoft.Network/virtualNetworks", body)
    with opened(fake, resource_group="shared", subnet=f"{network}/subnets/mine") as compute:
        name = compute.launch(wanted()).instance_id
        compute.terminate([name])
    assert remaining(fake) == ([], ["virtualNetworks/net"], ["shared"])


def test_deleted_network_is_created_again(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        compute.terminate([name])
        fake.cloud.delete_group("cloud-tasks-job")
        eventually(lambda: remaining(fake)[2] == [])
        again = compute.launch(wanted())
        assert remaining(fake)[0] == [again.instance_id]


def test_group_with_an_extension_of_a_policy_is_deleted(fake: ArmFake) -> None:
    with opened(fake) as compute:
        name = compute.launch(wanted()).instance_id
        extension = f"{body_of(fake, name)['id']}/extensions/MSProtection"
        fake.cloud.put(extension, "Microsoft.Compute/virtualMachines/extensions", {"location": "eastus"})
        compute.terminate([name])
    eventually(lambda: remaining(fake)[2] == [])


def test_configured_tags_are_on_group_network_and_vm_but_are_no_labels(fake: ArmFake) -> None:
    with opened(fake, tags={"costcenter": "42"}) as compute:
        request = wanted()
        compute.launch(request)
        (found,) = compute.instances("job")
        tagged = [*fake.cloud.groups.values(), *fake.cloud.find(lambda each: True)]
        assert {each["tags"].get("costcenter") for each in tagged} == {"42"}
    assert "costcenter" not in found.labels


def test_network_uses_the_configured_nat_gateway(fake: ArmFake) -> None:
    gateway = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Network/natGateways/n"
    with opened(fake, nat_gateway=gateway) as compute:
        compute.launch(wanted())
        (network,) = fake.cloud.find(lambda each: each["type"].endswith("virtualNetworks"))
        properties = network["properties"]["subnets"][0]["properties"]
    assert (properties["natGateway"], properties["defaultOutboundAccess"]) == ({"id": gateway}, False)


@pytest.mark.parametrize("jobs", [("a.b", "a-b"), ("A", "a"), ("x" * 70 + "1", "x" * 70 + "2")])
def test_names_of_two_jobs_differ(jobs: tuple[str, str]) -> None:
    groups, networks = {group_name(job) for job in jobs}, {network_name(job, "eastus") for job in jobs}
    assert (len(groups), len(networks)) == (2, 2)
    assert all(re.fullmatch(r"[\w.()-]{1,90}(?<!\.)", each) for each in groups)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,58}[a-z0-9]", each) for each in networks)
