"""Behavior that the contract does not cover: settings, and a missing or refusing server."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
import redis
from cloud_tasks_redis.settings import RedisSettings

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError
from cloud_tasks.plugin import QueueContext, setting_info
from cloud_tasks.registry import Registry

BACKEND = Registry(only=["redis"]).queue("redis")
CONTEXT = QueueContext(job_id="job", name="job", lease=timedelta(seconds=30))


def test_settings_refuse_url_with_password() -> None:
    with pytest.raises(ValueError, match=r"set redis\.password instead"):
        RedisSettings(url="redis://:secret@localhost/0")


def test_settings_refuse_url_of_other_scheme() -> None:
    with pytest.raises(ValueError, match="must start with"):
        RedisSettings(url="http://localhost")


def test_settings_decide_where_queues_are() -> None:
    located = {field.name for field in attrs.fields(RedisSettings) if setting_info(field).locates}
    assert located == {"url", "prefix"}


def test_settings_repr_omits_password() -> None:
    assert "secret" not in repr(RedisSettings(password="secret"))


def test_create_without_server_raises_transient_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = RedisSettings(url=f"redis://127.0.0.1:{port}/0")
    with BACKEND.open(settings, CONTEXT) as queue, pytest.raises(ProviderError) as caught:
        queue.create()
    assert caught.value.transient


def test_create_with_wrong_password_raises_permanent_error(redis_url: str) -> None:
    with BACKEND.open(RedisSettings(url=redis_url, username="unknown", password="wrong"), CONTEXT) as queue:
        with pytest.raises(ProviderError) as caught:
            queue.create()
        assert not caught.value.transient


def test_queue_of_a_server_with_a_password_needs_it(secured_redis_url: str) -> None:
    with BACKEND.open(RedisSettings(url=secured_redis_url, password="SEKRET-4711"), CONTEXT) as queue:
        queue.create()
        assert queue.exists()
        queue.delete()
    for password in (None, "SEKRET-wrong"):
        with BACKEND.open(RedisSettings(url=secured_redis_url, password=password), CONTEXT) as queue:
            with pytest.raises(CredentialsError) as caught:
                queue.create()
            assert "SEKRET" not in str(caught.value)


def test_send_to_missing_queue_raises_not_found(redis_url: str) -> None:
    with BACKEND.open(RedisSettings(url=redis_url), CONTEXT) as queue, pytest.raises(NotFoundError):
        queue.send([b"task"])


def test_delete_removes_all_keys(redis_url: str) -> None:
    with BACKEND.open(RedisSettings(url=redis_url, prefix="mine"), CONTEXT) as queue:
        queue.create()
        queue.send([b"one", b"two"])
        queue.receive(1, wait=timedelta(0))
        with redis.Redis.from_url(redis_url) as client:
            assert len(client.keys("mine:*")) == 5
            queue.delete()
            assert client.keys("mine:*") == []


def test_registration_does_not_import_redis(tmp_path: Path) -> None:
    program = "import sys, cloud_tasks_redis.plugin as p; p.cloud_tasks_register_queue(); print('redis' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
