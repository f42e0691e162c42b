"""The queue passes the contract of the conformance kit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import attrs
import pytest
from cloud_tasks_nats.settings import NatsSettings

from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject

if TYPE_CHECKING:
    from conftest import NatsServer


class TestNatsQueue(QueueContract):
    @pytest.fixture
    def subject(self, nats_server: NatsServer, unused_port: int) -> QueueSubject:
        settings = NatsSettings(url=nats_server.url, username=nats_server.username, password=nats_server.password)
        return QueueSubject(
            # Found like an installed plugin, so that the entry point is tested too.
            backend=Registry(only=["nats"]).queue("nats"),
            settings=settings,
            lease=timedelta(seconds=0.5),
            restart=nats_server.restart,
            unreachable=attrs.evolve(settings, url=f"nats://127.0.0.1:{unused_port}"),
            refused=attrs.evolve(settings, password="wrong"),
        )
