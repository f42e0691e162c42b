"""Every command that looks, asks or tidies up, on Azure as the stand-ins play it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from arm_desk import KEY
from arm_fake import SUBSCRIPTION
from arm_process import ArmProcess
from azurite import Azurite
from cloud_commands import CommandsOfAProvider, Site
from retail_fake import RetailFake


class TestCommandsOfAzure(CommandsOfAProvider):
    @pytest.fixture(scope="class")
    def site(self, tmp_path_factory: pytest.TempPathFactory, azurite: Azurite) -> Iterator[Site]:
        folder = tmp_path_factory.mktemp("desk")
        with RetailFake() as prices, ArmProcess(folder / "machines") as arm:
            section = {
                "subscription_id": SUBSCRIPTION,
                "management_endpoint": arm.url,
                "prices_endpoint": prices.url,
                "operation_poll_seconds": 0.05,
                "queue_poll_seconds": 0.5,
                "ssh_public_key": KEY,
            }
            yield Site(
                folder=folder,
                sections={"provider": "azure", "azure": section},
                run={"region": "eastus", "min_cpu": 2, "max_cpu": 8},
                environment={**azurite.environment, "CLOUD_TASKS_CACHE_DIR": str(folder / "cache")},
                region="eastus",
                zone="eastus-1",
                image="ubuntu",
                instance_type="Standard_D2s_v5",
            )
