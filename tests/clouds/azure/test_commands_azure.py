"""Commands that list, query or clean up, against the Azure fakes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from arm_fake import SUBSCRIPTION
from arm_process import ArmProcess
from arm_requests import KEY
from azurite import Azurite
from cloud_commands import Call, CommandsOfAProvider, Site
from retail_fake import RetailFake


@pytest.fixture(scope="module")
def azure_section(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    with RetailFake() as prices, ArmProcess(tmp_path_factory.mktemp("arm") / "machines") as arm:
        yield {
            "subscription_id": SUBSCRIPTION,
            "management_endpoint": arm.url,
            "prices_endpoint": prices.url,
            "operation_poll_seconds": 0.05,
            "queue_poll_seconds": 0.5,
            "ssh_public_key": KEY,
            "managed_identity": "system",
        }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache folder of types and prices, shared by all tests."""
    return tmp_path_factory.mktemp("cache")


class TestCommandsOfAzure(CommandsOfAProvider):
    @pytest.fixture
    def site(self, tmp_path: Path, azure_section: dict[str, object], cache: Path, azurite: Azurite) -> Site:
        return Site(
            folder=tmp_path,
            sections={"provider": "azure", "azure": azure_section},
            run={"region": "eastus", "min_cpu": 2, "max_cpu": 8},
            environment={**azurite.environment, "CLOUD_TASKS_CACHE_DIR": str(cache)},
            region="eastus",
            zone="eastus-1",
            image="ubuntu",
            instance_type="Standard_D2s_v5",
            burstable="^Standard_B",
        )

    def test_doctor(self, call: Call, site: Site) -> None:
        without = ("--set", "azure.managed_identity=null")
        result = call("doctor", *without, code=1)
        assert re.search("^  ok +Python", result.out, re.MULTILINE)
        assert "FAILED  managed identity" in result.out
        assert "az identity create" in result.out
        # Queue, compute and pricing of this cloud were all checked.
        parts = {finding["by"] for finding in call("doctor", "--json", *without, code=1).data["findings"]}
        assert {"azure queue", "azure compute", "azure pricing"} <= parts
