"""The queue passes the contract of the conformance kit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import attrs
import pytest
from cloud_tasks_redis.settings import RedisSettings

from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject

if TYPE_CHECKING:
    from conftest import RedisServer


class TestRedisQueue(QueueContract):
    @pytest.fixture
    def subject(self, redis_server: RedisServer, unused_port: int) -> QueueSubject:
        settings = RedisSettings(url=redis_server.url, username=redis_server.username, password=redis_server.password)
        return QueueSubject(
            # Found like an installed plugin, so that the entry point is tested too.
            backend=Registry(only=["redis"]).queue("redis"),
            settings=settings,
            lease=timedelta(seconds=0.3),
            restart=redis_server.restart,
            unreachable=attrs.evolve(settings, url=f"redis://127.0.0.1:{unused_port}/0"),
            refused=attrs.evolve(settings, password="wrong"),
        )
