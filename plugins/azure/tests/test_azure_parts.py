"""Unit tests of credentials, names, sizes and startup scripts, without HTTP."""

from __future__ import annotations

import gzip
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from arm_requests import wanted
from azure.core.exceptions import (
    ClientAuthenticationError,
)
from azure.identity import ClientSecretCredential, DefaultAzureCredential, ManagedIdentityCredential
from boot_shell import kill_guards, run_script

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import BootDisk, InstanceState
from cloud_tasks_azure.compute.cpu import cpu_of, gpu_of
from cloud_tasks_azure.compute.disks import disk_gb, disk_problem, tier_of
from cloud_tasks_azure.compute.startup_script import MAX_BYTES, compose_script, encode_script
from cloud_tasks_azure.compute.to_model import VmStatus, status_of, to_instance
from cloud_tasks_azure.compute.zones import location_name, location_of, zone_name, zone_number
from cloud_tasks_azure.credentials import INSTANCE_IDENTITY, credential, credential_error, is_emulator, subscription_id
from cloud_tasks_azure.settings import AzureSettings

SECRET = "s3cr3t-of-an-application"

# Credentials


def test_credential_uses_configured_application_without_showing_its_secret() -> None:
    settings = AzureSettings(tenant_id="t" * 8, client_id="c" * 8, client_secret=SECRET)
    created = credential(settings)
    assert isinstance(created, ClientSecretCredential)
    assert SECRET not in repr(settings) + repr(created)
    created.close()


def test_credential_uses_the_default_chain_without_application() -> None:
    created = credential(AzureSettings())
    assert isinstance(created, DefaultAzureCredential)
    created.close()


def test_credential_of_an_instance_names_its_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/w"
    script = composed("#!/bin/sh\nenv\n", identity=identity)
    assert f"{INSTANCE_IDENTITY}='{identity}'" in script or f"{INSTANCE_IDENTITY}={identity}" in script
    assert INSTANCE_IDENTITY not in composed("#!/bin/sh\n", identity="system")
    monkeypatch.setenv(INSTANCE_IDENTITY, identity)
    created = credential(AzureSettings())
    assert isinstance(created, ManagedIdentityCredential)
    assert identity in str(vars(created._credential))
    created.close()
    application = credential(AzureSettings(tenant_id="t", client_id="c", client_secret=SECRET))
    assert isinstance(application, ClientSecretCredential)
    application.close()


@pytest.mark.parametrize(
    ("account", "name"),
    [
        ("myaccount", "myaccount"),
        ("https://myaccount.queue.core.windows.net/", "myaccount"),
        ("https://myaccount.queue.core.chinacloudapi.cn", "none"),
        (None, "none"),
    ],
)
def test_composed_script_lets_urls_name_a_container_only(tmp_path: Path, account: str | None, name: str) -> None:
    script = '#!/bin/sh\necho "${AZURE_STORAGE_ACCOUNT_NAME:-none} $AZURE_STORAGE_ANON"\n'
    assert run_script(composed(script, account=account), tmp_path)[1] == f"{name} false\n"
    kill_guards(tmp_path)


def test_warnings_of_the_sdk_are_no_output_of_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    for name in ("azure.identity", "azure.mgmt.compute", "azure.servicebus"):
        logging.getLogger(name).warning("attempted credentials:\n\tEnvironmentCredential …")
    assert capsys.readouterr().err == ""


def test_credential_reports_incomplete_application() -> None:
    with pytest.raises(ProviderError, match=r"azure\.tenant_id missing") as caught:
        credential(AzureSettings(client_id="c", client_secret=SECRET))
    assert SECRET not in str(caught.value)


def test_emulator_gets_no_token_and_azure_no_unsigned_request() -> None:
    settings = AzureSettings(tenant_id="t", client_id="c", client_secret=SECRET)
    with pytest.raises(ProviderError, match="not Azure's"):
        credential(settings, endpoint="http://127.0.0.1:1").get_token("scope")
    assert [is_emulator(each) for each in (None, "", "https://x", "HTTPS://x", "http://x")] == [
        False,
        False,
        False,
        False,
        True,
    ]


def test_missing_subscription_names_the_fix() -> None:
    with pytest.raises(ProviderError, match="--subscription-id"):
        subscription_id(AzureSettings())
    assert subscription_id(AzureSettings(subscription_id="s")) == "s"


def test_credential_error_quotes_nothing_of_the_response() -> None:
    error = credential_error(ClientAuthenticationError(message=f"tried {SECRET}"))
    assert SECRET not in str(error)
    assert "az login" in error.hint


# Zones, sizes, disks


def test_zone_names_contain_the_location() -> None:
    assert zone_name("eastus", "2") == "eastus-2"
    assert zone_name("eastus", None) == "eastus"
    assert (location_of("eastus-2"), zone_number("eastus-2")) == ("eastus", "2")
    assert (location_of("eastus2"), zone_number("eastus2")) == ("eastus2", None)
    assert location_name("East US 2") == "eastus2"


@pytest.mark.parametrize(
    ("name", "family", "rank"),
    [
        ("Standard_D2s_v5", "Intel Ice Lake", 16),
        ("Standard_D4as_v5", "AMD Milan", 17),
        ("Standard_D2ps_v5", "Ampere Altra", 15),
        ("Standard_D4pds_v6", "Azure Cobalt 100", 0),
        ("Standard_E16-4ds_v4", "Intel Cascade Lake", 12),
        ("Standard_E8as_v4", "AMD Rome", 13),
        ("Standard_DS2_v2", "Intel Haswell", 6),
        ("Standard_D8s_v6", "Intel Emerald Rapids", 25),
        ("Standard_D8as_v6", "AMD Genoa", 22),
        ("Standard_F8s_v2", "Intel Skylake", 11),
        ("Standard_L8s_v2", "AMD Naples", 10),
        ("Standard_L8as_v3", "AMD Milan", 17),
        ("Standard_HB120rs_v3", "AMD Milan", 17),
        ("Standard_NC24ads_A100_v4", "AMD Milan", 17),
        ("Standard_Z9", "", 0),
        ("nonsense", "", 0),
    ],
)
def test_cpu_of_follows_the_size_name(name: str, family: str, rank: int) -> None:
    assert (cpu_of(name).family, cpu_of(name).rank) == (family, rank)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("Standard_NC4as_T4_v3", "T4"),
        ("Standard_NC6s_v3", "V100"),
        ("Standard_ND96isr_H100_v5", "H100"),
        ("Standard_NV36ads_A10_v5", "A10"),
        ("Standard_D2s_v5", ""),
    ],
)
def test_gpu_of_follows_the_size_name(name: str, gpu: str) -> None:
    assert gpu_of(name) == gpu


def test_disk_size_fits_the_image_and_tier() -> None:
    small, edge = BootDisk(disk_type="Premium_LRS", size_gb=4), BootDisk(disk_type="Standard_LRS", size_gb=128.5)
    assert (disk_gb(small), tier_of(small)) == (30, "P4")
    assert (disk_gb(edge), tier_of(edge)) == (129, "S15")
    assert disk_problem(small) is None
    assert "cannot be configured" in str(disk_problem(BootDisk(disk_type="Premium_LRS", size_gb=30, iops=5000)))


@pytest.mark.parametrize("provisioning", ["Creating", "Updating", "Succeeded", "Failed", "Canceled", "Deleting", ""])
@pytest.mark.parametrize("power", ["", "running", "stopped", "deallocated", "unknown"])
def test_to_instance_never_reports_a_billed_vm_as_terminated(provisioning: str, power: str) -> None:
    vm = {"name": "m", "properties": {"provisioningState": provisioning}, "location": "eastus"}
    assert to_instance(vm, VmStatus(power=power)).state is not InstanceState.TERMINATED


# Startup scripts


def composed(
    script: str, *, identity: str | None = None, seconds: float | None = None, account: str | None = None
) -> str:
    lifetime = None if seconds is None else timedelta(seconds=seconds)
    resource = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/m"
    settings = AzureSettings(managed_identity=identity, storage_account=account)
    return compose_script(wanted(startup_script=script, max_lifetime=lifetime), settings, resource)


@pytest.mark.parametrize("identity", [None, "system", "/subscriptions/s/x/userAssignedIdentities/w"])
def test_composed_script_behaves_like_the_plain_script(tmp_path: Path, identity: str | None) -> None:
    script = '#!/bin/bash\nset -eu\njobs\nwait\necho "${!:-none} $- $#"\nexit 7\n'
    results = []
    for name, text in (("plain", script), ("composed", composed(script, identity=identity))):
        folder = tmp_path / name
        folder.mkdir()
        results.append(run_script(text, folder, CLOUD_TASKS_POWER_OFF_COMMAND="mine"))
        kill_guards(folder)
    assert results[0] == results[1]


def test_composed_script_deletes_vm_with_identity_or_powers_off() -> None:
    text = composed("#!/bin/sh\n", identity="system", seconds=5)
    assert '/var/lib/cloud-tasks"/leave.py; } || shutdown -h now' in text
    assert '"$$" "5" ""' in text
    without = composed("#!/bin/sh\n", seconds=5)
    assert '"$$" "5" "" \'shutdown -h now' in without
    assert "python3" not in without


def test_composed_script_contains_a_valid_deletion_program(tmp_path: Path) -> None:
    text = composed("#!/bin/bash\n", identity="/subscriptions/s/x/userAssignedIdentities/w")
    program = text.split("<<'CLOUD_TASKS_LEAVE'\n")[1].split("\nCLOUD_TASKS_LEAVE")[0]
    compile(program, "leave", "exec")
    assert "msi_res_id" in program


def test_encode_script_compresses_and_refuses_too_long() -> None:
    script = "#!/bin/bash\n" + "echo a repeated line\n" * 10_000
    assert gzip.decompress(encode_script(script)) == script.encode()
    assert encode_script("#!/bin/bash\n") == b"#!/bin/bash\n"
    with pytest.raises(InputError, match=f"limit {MAX_BYTES:,}"):
        encode_script(os.urandom(80_000).hex())


# VMs


def status(code: str, time: datetime | None = None, *, level: str = "Info", message: str = "") -> dict[str, Any]:
    found = {"code": code, "level": level, "message": message}
    return {**found, "time": time.strftime("%Y-%m-%dT%H:%M:%S.0000000Z")} if time else found


def vm_with(*statuses: dict[str, Any], provisioning: str = "Succeeded") -> dict[str, Any]:
    view = {"statuses": list(statuses)}
    properties = {"provisioningState": provisioning, "timeCreated": CREATED.isoformat(), "instanceView": view}
    return {"name": "m", "properties": properties, "location": "eastus"}


CREATED = datetime(2026, 1, 1, 12, tzinfo=UTC)
PROVISIONED, POWERED = CREATED + timedelta(seconds=30), CREATED + timedelta(seconds=40)


@pytest.mark.parametrize(
    ("statuses", "started_at"),
    [
        ((status("ProvisioningState/succeeded", PROVISIONED), status("PowerState/running")), PROVISIONED),
        ((status("ProvisioningState/succeeded", PROVISIONED), status("PowerState/running", POWERED)), POWERED),
        (
            (status("ProvisioningState/succeeded", CREATED - timedelta(seconds=1)), status("PowerState/running")),
            CREATED,
        ),
        ((status("ProvisioningState/updating", PROVISIONED), status("PowerState/running")), None),
        ((status("ProvisioningState/creating", PROVISIONED), status("PowerState/starting")), None),
        ((status("ProvisioningState/succeeded", PROVISIONED), status("PowerState/deallocated", POWERED)), None),
        ((), None),
    ],
)
def test_to_instance_starts_at_the_time_of_the_statuses(
    statuses: tuple[dict[str, Any], ...], started_at: datetime | None
) -> None:
    vm = vm_with(*statuses)
    assert to_instance(vm, status_of(vm)).started_at == started_at


def test_to_instance_has_the_reason_of_a_failed_vm() -> None:
    failed = status("ProvisioningState/failed/OSProvisioningTimedOut", level="Error", message="OS did not\nfinish")
    vm = vm_with(failed, provisioning="Failed")
    assert to_instance(vm, status_of(vm)).reason == "ProvisioningState/failed/OSProvisioningTimedOut: OS did not finish"
    alive = vm_with(status("PowerState/running"), status("VmAgent/x", level="Error", message="no agent"))
    assert to_instance(alive, status_of(alive)).reason == ""
