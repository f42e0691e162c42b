"""Registration, settings, catalog and prices."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.model import BootDisk, InstanceType, Money, Offer, OfferRequest, ProvisioningModel
from cloud_tasks.plugin import PricingContext
from cloud_tasks.registry import Registry
from cloud_tasks_local.catalog import architecture, instance_types
from cloud_tasks_local.instance_side import LocalInstanceSide
from cloud_tasks_local.pricing import open_pricing
from cloud_tasks_local.queue import SqliteQueue, queue_file
from cloud_tasks_local.settings import LocalSettings


def price(settings: LocalSettings, vcpus: int, provisioning_model: ProvisioningModel) -> Money:
    instance_type = InstanceType(
        name=f"local-{vcpus}", vcpus=vcpus, memory_gb=1.0, architecture=architecture(), zones=("local-a",)
    )
    disk = BootDisk(disk_type="", size_gb=10)
    wanted = OfferRequest(
        instance_type=instance_type, zone="local-a", provisioning_model=provisioning_model, boot_disk=disk
    )
    (offer,) = open_pricing(settings, PricingContext()).price([wanted])
    assert isinstance(offer, Offer)
    return offer.price_per_hour


def test_plugin_registers_three_backends() -> None:
    registry = Registry(only=["local"])
    assert registry.queue("local").settings is LocalSettings
    assert registry.compute("local").settings is LocalSettings
    assert registry.pricing("local").settings is LocalSettings
    assert registry.problems() == ()


def test_registration_imports_no_implementation() -> None:
    program = (
        "import sys, cloud_tasks_local.plugin\n"
        "print(sorted(name for name in sys.modules if name == 'sqlite3' or name.startswith('cloud_tasks_local.')))\n"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == str([f"cloud_tasks_local.{name}" for name in ("plugin", "settings", "traits")])


def test_settings_make_state_dir_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert LocalSettings().state_dir == tmp_path / ".cloud-tasks"
    assert LocalSettings(state_dir=Path("here")).state_dir == tmp_path / "here"


@pytest.mark.parametrize(
    "invalid",
    [
        {"vcpus": 0},
        {"memory_gb": 0},
        {"price_per_cpu_hour": Money(-1)},
        {"spot_price_factor": -0.1},
        {"spot_mean_lifetime": 0},
        {"spot_notice": -1},
        {"shutdown_grace": -1},
    ],
)
def test_settings_refuse_invalid_values(invalid: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be (greater than 0|0 or more), got "):
        LocalSettings(**invalid)


@pytest.mark.parametrize(
    ("vcpus", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_instance_types_are_powers_of_two_and_whole_machine(vcpus: int, expected: list[int]) -> None:
    types = instance_types(LocalSettings(vcpus=vcpus, memory_gb=24.0))
    assert [(t.name, t.vcpus) for t in types] == [(f"local-{size}", size) for size in expected]
    assert [t.memory_gb for t in types] == pytest.approx([24.0 * size / vcpus for size in expected], abs=0.001)


def test_instance_types_default_to_size_of_this_machine() -> None:
    whole = instance_types(LocalSettings())[-1]
    assert whole.vcpus >= 1
    assert whole.memory_gb > 0.1


def test_price_is_exact_per_cpu_hour() -> None:
    settings = LocalSettings(price_per_cpu_hour=Money(0.1), spot_price_factor=0.4)
    assert price(settings, 3, ProvisioningModel.ON_DEMAND) == Money(Decimal("0.3"))
    assert price(settings, 3, ProvisioningModel.SPOT) == Money(Decimal("0.12"))


def test_price_is_zero_by_default() -> None:
    assert price(LocalSettings(), 4, ProvisioningModel.ON_DEMAND) == Money(0)


def test_instance_side_outside_instance_has_no_identity_or_notice() -> None:
    outside = LocalInstanceSide({})
    with pytest.raises(ProviderError, match="CLOUD_TASKS_INSTANCE_ID is not set"):
        outside.identity()
    assert outside.termination_notice() is None


def test_plugin_imports_only_the_promised_packages_of_core() -> None:
    sources = list((Path(__file__).parents[1] / "src").rglob("*.py"))
    imported = {name for file in sources for name in re.findall(r"^\s*from (cloud_tasks\b\S*)", file.read_text(), re.M)}
    promised = {"cloud_tasks.errors", "cloud_tasks.model", "cloud_tasks.plugin", "cloud_tasks.plugin.kit"}
    assert imported - promised == set()
    assert "cloud_tasks.plugin" in imported


def _list_instances(folder: Path, state_dir: str) -> subprocess.CompletedProcess[str]:
    program = "from cloud_tasks.cli.main import main; main()"
    arguments = ["show-queue", "--provider", "local", "--queue-name", "job", "--local-state-dir", state_dir]
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("state_dir", ["file", "file/below", "/dev/null"])
def test_state_dir_that_is_a_file_is_bad_input(tmp_path: Path, state_dir: str) -> None:
    (tmp_path / "file").touch()
    done = _list_instances(tmp_path, state_dir)
    named = tmp_path / state_dir.removesuffix("/below")
    assert done.stderr == f"Error: --local-state-dir: local.state_dir: {named} is not a folder; choose another one\n"
    assert done.returncode == 2


def test_state_dir_that_cannot_be_created_is_bad_input() -> None:
    queue = SqliteQueue(queue_file(Path("/proc/nowhere"), "q"), lease=timedelta(seconds=60))
    for use in (queue.create, queue.claim):
        with pytest.raises(InputError, match=r"local\.state_dir: cannot use the folder /proc/nowhere/queues"):
            use()


def test_settings_refuse_a_state_folder_whose_path_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="is not UTF-8; rename the folder or give another one"):
        LocalSettings(state_dir=Path("a\udcffb"))
    monkeypatch.setattr(Path, "absolute", lambda path: Path("/u\udcffv") / path)
    with pytest.raises(ValueError, match="is not UTF-8"):
        LocalSettings()
