"""Checks of a subscription and a storage account before a run: what certainly prevents it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import offer, settings_for
from fake_server import Answer, FakeServer, Fault

from cloud_tasks.model import LaunchRequest, Offer
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_azure.compute import arm as resource_manager
from cloud_tasks_azure.servicebus.settings import ServiceBusSettings
from cloud_tasks_azure.settings import AzureSettings

REGISTRY = Registry(only=["azure"])
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/jobs"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/cloud-tasks-worker"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/workers"


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ArmFake]:
    with ArmFake(tmp_path / "arm") as fake:
        fake.account.resources |= {IDENTITY, SUBNET}
        yield fake


def before_run(queue: str = "", offered: Offer | None = None, script: str = "") -> CheckContext:
    launch = LaunchRequest(
        client_token="0" * 25, job_id="job", offer=offered or offer(), startup_script=script, labels={}
    )
    return CheckContext(queue=queue, launch=launch)


def failed(kind: str, settings: AzureSettings, context: CheckContext | None = None) -> dict[str, bool]:
    """Return whether each failed finding prevents a run, by subject; each has a remedy."""
    check = getattr(REGISTRY, kind)("azure").check
    assert check is not None
    found: list[Finding] = [each for each in check(settings, context or before_run()) if not each.ok]
    assert all(each.remedy for each in found)
    return {each.subject: each.prevents_run for each in found}


def compute(arm: ArmFake, context: CheckContext | None = None, **settings: Any) -> dict[str, bool]:
    return failed("compute", settings_for(arm, **{"managed_identity": IDENTITY, **settings}), context)


def test_check_before_run_passes_without_slow_listings(arm: ArmFake) -> None:
    assert compute(arm, subnet=SUBNET) == {}
    assert {method for method, _ in arm.server.calls} <= {"GET", "HEAD"}
    assert not [path for _, path in arm.server.calls if path.endswith(("/skus", "/virtualMachines", "/usages"))]


def test_check_before_run_finds_missing_resources(arm: ArmFake) -> None:
    arm.account.resources.clear()
    found = compute(arm, resource_group="jobs", subnet=SUBNET)
    assert found == {"managed identity": True, "resource group": True, "subnet": True}


def test_check_before_run_finds_missing_registration_and_permission(arm: ArmFake) -> None:
    arm.account.registered -= {"Microsoft.Network", "Microsoft.Storage"}
    arm.account.permissions = [{"actions": ["*/read", "Microsoft.Network/*"]}]
    assert compute(arm) == {"Microsoft.Network": True, "permissions": True}


def test_check_before_run_warns_of_what_may_do_without(arm: ArmFake) -> None:
    arm.account.permissions = [{"actions": ["*/read", "Microsoft.Compute/*", "Microsoft.Resources/*"]}]
    assert compute(arm, managed_identity=None) == {"permissions": False, "managed identity": False}


def test_check_before_run_without_identity_prevents_workers_without_credentials(arm: ArmFake) -> None:
    assert compute(arm, before_run(queue="azure"), managed_identity=None) == {"managed identity": True}
    assert compute(arm, before_run(queue="azure-servicebus"), managed_identity=None) == {"managed identity": True}
    keys = "#!/bin/bash\nexport AZURE_STORAGE_CONNECTION_STRING=$(fetch-secret)\n"
    assert compute(arm, before_run("azure", script=keys), managed_identity=None) == {"managed identity": False}
    assert compute(arm, before_run(queue="aws"), managed_identity=None) == {"managed identity": False}


def test_check_before_run_warns_of_workers_that_cannot_find_their_queue(arm: ArmFake) -> None:
    assert compute(arm, before_run("azure")) == {"workers' access": False}
    assert compute(arm, before_run("azure"), storage_account="myaccount") == {}
    assert compute(arm, before_run("azure", script="AZURE_STORAGE_CONNECTION_STRING=$(fetch-secret)\n")) == {}
    assert compute(arm, before_run("aws")) == {}


def test_check_before_run_warns_of_identities_without_a_role(arm: ArmFake) -> None:
    assert compute(arm, managed_identity="system") == {"managed identity": False}


def test_check_before_run_warns_of_a_gpu_without_driver(arm: ArmFake) -> None:
    with_gpu = attrs.evolve(offer(), instance_type=attrs.evolve(offer().instance_type, gpu_count=1, gpu_type="T4"))
    assert compute(arm, before_run(offered=with_gpu)) == {"image": False}


@pytest.mark.parametrize(
    ("status", "code", "prevents"),
    [
        (401, "ExpiredAuthenticationToken", True),
        (404, "SubscriptionNotFound", True),
        (403, "AuthorizationFailed", False),
        (429, "TooManyRequests", False),
        (503, "ServerBusy", False),
    ],
)
def test_check_before_run_is_prevented_by_certain_refusals_only(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, prevents: bool
) -> None:
    monkeypatch.setattr(resource_manager, "_RETRIES", 0)
    server = FakeServer()
    body = {"error": {"code": code, "message": "no"}}
    server.route("*", ".*", lambda request: Answer(status=status, body=body))
    with server.serving():
        settings = AzureSettings(subscription_id=SUBSCRIPTION, management_endpoint=server.url)
        assert list(failed("compute", settings).values()) == [prevents]


def test_check_before_run_is_not_prevented_by_an_outage(arm: ArmFake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_manager, "_RETRIES", 0)
    arm.server.fault = Fault(share=1.0, status=500)
    assert compute(arm) == {"subscription": False}
    arm.server.fault = None
    arm.server.close()
    assert compute(arm) == {"subscription": False}


def test_check_before_run_without_account_or_subscription_is_certain(arm: ArmFake) -> None:
    assert failed("queue", AzureSettings()) == {"storage account": True}
    check = Registry(only=["azure-servicebus"]).queue("azure-servicebus").check
    assert check is not None
    found = [each for each in check(ServiceBusSettings(), before_run()) if not each.ok]
    assert [(each.subject, each.prevents_run) for each in found] == [("Service Bus", True)]
    assert failed("compute", attrs.evolve(settings_for(arm), subscription_id=None)) == {"subscription": True}
