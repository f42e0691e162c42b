"""Pub/Sub passes the queue contract."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import timedelta

import attrs
import pytest
from cloud_servers import free_port

from cloud_tasks.plugin import Queue
from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject
from cloud_tasks_gcp.queue import pubsub_client
from cloud_tasks_gcp.queue.factory import open_queue
from cloud_tasks_gcp.queue.pubsub_errors import RETRY
from cloud_tasks_gcp.settings import GcpSettings

REGISTRY = Registry(only=["gcp"])


@attrs.frozen(kw_only=True)
class Subject(QueueSubject):
    """Queues with a short minimum poll, as the emulator is on this machine."""

    def open(self, name: str, *, lease: timedelta | None = None) -> AbstractContextManager[Queue]:
        return open_queue(self.settings, self.context(name, lease=lease), min_poll=0.2)


class TestPubSub(QueueContract):
    @pytest.fixture(autouse=True)
    def _impatient(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Repeat calls to a server that never answers for a second only."""
        if "unreachable" in request.node.name:
            monkeypatch.setattr(pubsub_client, "RETRY", RETRY.with_timeout(1.0))

    @pytest.fixture
    def subject(self, emulator: str) -> QueueSubject:
        return Subject(
            backend=REGISTRY.queue("gcp"),
            settings=GcpSettings(project_id="contract", pubsub_endpoint=emulator),
            lease=timedelta(seconds=1),
            unreachable=GcpSettings(project_id="contract", pubsub_endpoint=f"127.0.0.1:{free_port()}"),
        )
