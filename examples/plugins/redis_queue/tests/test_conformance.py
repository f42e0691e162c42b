"""Conformance tests of the Redis queue."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cloud_tasks_redis.settings import RedisSettings

from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject


class TestRedisQueue(QueueContract):
    @pytest.fixture
    def subject(self, redis_url: str) -> QueueSubject:
        return QueueSubject(
            # Discovered as installed, so that the entry point is tested too.
            backend=Registry(only=["redis"]).queue("redis"),
            settings=RedisSettings(url=redis_url),
            lease=timedelta(seconds=0.3),
        )
