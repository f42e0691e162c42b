"""``cloud-tasks setup azure`` on the fakes: a new subscription, what Azure refuses, and the first job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from arm_fake import SUBSCRIPTION, ArmFake
from arm_requests import settings_for
from arm_setup import Subscription
from arm_sign_in import SignIn, signed_in
from azure.storage.blob import BlobServiceClient
from azurite import Azurite
from storage_faults import StorageFaults

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem
from cloud_tasks.registry import Registry
from cloud_tasks.testing import SetupContract, SetupSubject
from cloud_tasks_azure.settings import AzureSettings

BACKEND = Registry(only=["azure"]).compute("azure")


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[SignIn]:
    with signed_in() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def arm(azurite: Azurite, sign_in: SignIn, tmp_path: Path) -> Iterator[ArmFake]:
    """A subscription in which nothing is set up."""
    with ArmFake(tmp_path / "arm", storage=azurite.connection_string) as fake:
        yield fake
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        for each in blobs.list_containers():
            blobs.delete_container(str(each.name))


@pytest.fixture
def state(arm: ArmFake) -> Subscription:
    assert arm.subscription is not None
    return arm.subscription


@pytest.fixture
def settings(arm: ArmFake, azurite: Azurite) -> AzureSettings:
    return settings_for(arm, connection_string=azurite.connection_string, operation_poll_seconds=0.001)


class TestSetupOfAzure(SetupContract):
    @pytest.fixture
    def subject(self, settings: AzureSettings) -> SetupSubject:
        return SetupSubject(backend=BACKEND, settings=settings, region="eastus")


def plan_of(settings: AzureSettings, **context: str) -> AccountSetup:
    assert BACKEND.setup is not None
    return BACKEND.setup(settings, SetupContext(**{"region": "eastus", "queue": "azure", **context}))
