"""Queue contract of Storage Queue."""

from __future__ import annotations

import base64
from datetime import timedelta

import attrs
import pytest
from azurite import Azurite
from cloud_servers import free_port

from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject
from cloud_tasks_azure.settings import AzureSettings

WRONG_KEY = base64.b64encode(b"the key of another account").decode()


class TestStorageQueue(QueueContract):
    @pytest.fixture
    def subject(self, azurite: Azurite, fast_retries: None) -> QueueSubject:
        nowhere = attrs.evolve(azurite, queue_endpoint=f"http://127.0.0.1:{free_port()}/{azurite.account}")
        return QueueSubject(
            backend=Registry(only=["azure"]).queue("azure"),
            settings=AzureSettings(connection_string=azurite.connection_string, queue_poll_seconds=0.2),
            unreachable=AzureSettings(connection_string=nowhere.connection_string),
            refused=AzureSettings(connection_string=azurite.connection_string.replace(azurite.key, WRONG_KEY)),
            # Long enough for a slow vm: tests advance the clock instead of waiting.
            lease=timedelta(seconds=60),
            advance=azurite.advance,
            # The emulator leases 32 messages per call, and takes longer for each.
            many=300,
        )
