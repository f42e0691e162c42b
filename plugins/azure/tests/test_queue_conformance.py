"""Queue contract of Storage Queue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from azurite import Azurite, azurite_server

from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject
from cloud_tasks_azure.settings import AzureSettings


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_server() as server:
        yield server


class TestStorageQueue(QueueContract):
    @pytest.fixture
    def subject(self, azurite: Azurite) -> QueueSubject:
        return QueueSubject(
            backend=Registry(only=["azure"]).queue("azure"),
            settings=AzureSettings(connection_string=azurite.connection_string, queue_poll_seconds=0.2),
            # Long enough for a slow vm: tests advance the clock instead of waiting.
            lease=timedelta(seconds=60),
            advance=azurite.advance,
            # The emulator leases 32 messages per call, and takes longer for each.
            many=300,
        )
