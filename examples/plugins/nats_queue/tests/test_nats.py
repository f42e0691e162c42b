"""Behavior that the contract does not cover: settings, checks, and a killed or refusing server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from cloud_tasks_nats.settings import NatsSettings

from cloud_tasks.errors import CredentialsError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Queue, QueueContext
from cloud_tasks.registry import Registry

if TYPE_CHECKING:
    from conftest import NatsServer

BACKEND = Registry(only=["nats"]).queue("nats")
CONTEXT = QueueContext(job_id="job", name="job", lease=timedelta(seconds=30))
PATIENCE = timedelta(seconds=10)


@pytest.fixture
def settings(nats_server: NatsServer) -> NatsSettings:
    return NatsSettings(url=nats_server.url, username=nats_server.username, password=nats_server.password)


@pytest.fixture
def queue(settings: NatsSettings) -> Iterator[Queue]:
    with BACKEND.open(settings, CONTEXT) as queue:
        queue.create()
        yield queue
        queue.delete()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nats://worker:secret@localhost", r"set nats\.username and nats\.password instead"),
        ("nats://secret@localhost", r"set nats\.username and nats\.password instead"),
        ("http://localhost", "must start with"),
        ("nats://", "must start with"),
    ],
)
def test_settings_refuse_url(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        NatsSettings(url=url)


def test_settings_repr_omits_password() -> None:
    assert "secret" not in repr(NatsSettings(password="secret"))


def test_queue_of_a_server_with_a_token_needs_it(token_nats_url: str) -> None:
    with BACKEND.open(NatsSettings(url=token_nats_url, password="SEKRET-4712"), CONTEXT) as queue:
        queue.create()
        assert queue.exists()
    for password in (None, "SEKRET-wrong"):
        with BACKEND.open(NatsSettings(url=token_nats_url, password=password), CONTEXT) as queue:
            with pytest.raises(CredentialsError) as caught:
                queue.create()
            assert "SEKRET" not in str(caught.value)


def test_send_to_missing_queue_raises_not_found(settings: NatsSettings) -> None:
    with BACKEND.open(settings, attrs.evolve(CONTEXT, name="missing")) as queue, pytest.raises(NotFoundError):
        queue.send([b"task"])


def test_concurrent_purges_and_depths_raise_no_error(settings: NatsSettings, queue: Queue) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(3) as threads:
        others = [stack.enter_context(BACKEND.open(settings, CONTEXT)) for _ in range(3)]

        def change(other: Queue) -> None:
            for _ in range(15):
                other.purge()
                other.depth()

        list(threads.map(change, others))
    queue.send([b"task"])
    assert queue.depth().visible == 1


def test_send_without_permission_raises_permanent_error(settings: NatsSettings, nats_server: NatsServer) -> None:
    with BACKEND.open(nats_server.reader(settings), CONTEXT) as queue:
        with pytest.raises(ProviderError, match=r"(?i)permissions violation") as caught:
            queue.create()
        assert not caught.value.transient


def test_receive_sets_the_lease_of_its_own_object(queue: Queue, settings: NatsSettings) -> None:
    queue.send([b"task"])
    with BACKEND.open(settings, attrs.evolve(CONTEXT, lease=timedelta(seconds=1))) as other:
        assert len(other.receive(1, wait=PATIENCE)) == 1
    assert queue.receive(1, wait=timedelta(0)) == []
    (delivery,) = queue.receive(1, wait=PATIENCE)
    assert delivery.delivery_count == 2


def test_messages_and_leases_survive_a_killed_server(queue: Queue, nats_server: NatsServer) -> None:
    queue.send([b"first", b"second"])
    (delivery,) = queue.receive(1, wait=PATIENCE)
    nats_server.kill()
    with pytest.raises(ProviderError) as caught:
        queue.ack([delivery.lease_id])
    assert caught.value.transient
    nats_server.start()
    assert queue.ack([delivery.lease_id]) == []
    (other,) = queue.receive(10, wait=PATIENCE)
    assert {delivery.body, other.body} == {b"first", b"second"}


def test_queues_of_names_that_the_server_refuses_are_separate(settings: NatsSettings) -> None:
    for name in ("a.b", "a b", "a*b", "ä" * 300, "ä" * 299):
        with BACKEND.open(settings, attrs.evolve(CONTEXT, name=name)) as queue:
            queue.create()
            queue.send([name.encode()])
            assert [each.body for each in queue.receive(10, wait=PATIENCE)] == [name.encode()]
            queue.delete()


def test_check_passes(settings: NatsSettings) -> None:
    assert BACKEND.check is not None
    findings = list(BACKEND.check(settings, CheckContext()))
    assert [(each.subject, each.ok) for each in findings] == [("NATS server", True)]


def test_check_of_a_wrong_password_prevents_a_run(settings: NatsSettings) -> None:
    assert BACKEND.check is not None
    (finding,) = BACKEND.check(attrs.evolve(settings, password="SEKRET-wrong"), CheckContext())
    assert (finding.ok, finding.prevents_run) == (False, True)
    assert finding.remedy == "check nats.username and nats.password"
    assert "SEKRET" not in finding.message


def test_registration_does_not_import_nats(tmp_path: Path) -> None:
    program = "import sys, cloud_tasks_nats.plugin as p; p.cloud_tasks_register_queue(); print('nats' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
