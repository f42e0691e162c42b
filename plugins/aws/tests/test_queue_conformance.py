"""Queue contract of SQS, standard and FIFO."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial

import attrs
import pytest
from fake_server import Answer, FakeServer
from sqs_clock import ClockedSqs
from sqs_emulator import clocked_sqs

from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import QueueContract, QueueSubject
from cloud_tasks_aws.queue import factory, named_queue
from cloud_tasks_aws.queue.factory import open_queue
from cloud_tasks_aws.session import client
from cloud_tasks_aws.settings import AwsSettings

REGISTRY = Registry(only=["aws"])


@pytest.fixture(autouse=True)
def _queues_are_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator knows a queue when it has created it."""
    monkeypatch.setattr(named_queue, "_NEW", 0.0)


@pytest.fixture(scope="module")
def sqs() -> Iterator[ClockedSqs]:
    with clocked_sqs() as sqs:
        yield sqs


@pytest.fixture(scope="module")
def refusing_sqs() -> Iterator[str]:
    """A service that refuses every signature; the emulator accepts any."""
    body = {"__type": "com.amazon.coral.service#InvalidSignatureException", "message": "the signature does not match"}
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    with FakeServer().serving() as server:
        server.route("POST", ".*", lambda request: Answer(status=403, body=json.dumps(body), headers=headers))
        yield server.url


@attrs.frozen(kw_only=True)
class Subject(QueueSubject):
    """Queues without a minimum poll and a wait: the emulator has one server, which purges at once."""

    sqs: ClockedSqs
    exactly_once: bool = False

    def context(self, name: str, *, lease: timedelta | None = None) -> QueueContext:
        return attrs.evolve(super().context(name, lease=lease), exactly_once=self.exactly_once)

    def open(self, name: str, *, lease: timedelta | None = None) -> AbstractContextManager[Queue]:
        context = self.context(name, lease=lease)
        none = timedelta(0)
        return open_queue(self.settings, context, min_poll=none, purge_time=none, clock=self.sqs.now)


@pytest.fixture(scope="module")
def nowhere() -> Iterator[AwsSettings]:
    """An address that nothing else takes, and that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        yield AwsSettings(access_key="stand", secret_key="in", sqs_endpoint=endpoint)


class TestSqs(QueueContract):
    exactly_once = False

    @pytest.fixture
    def subject(
        self, sqs: ClockedSqs, refusing_sqs: str, nowhere: AwsSettings, monkeypatch: pytest.MonkeyPatch
    ) -> QueueSubject:
        # The SDK's pauses between attempts are longer than the test.
        monkeypatch.setattr(factory, "client", partial(client, attempts=2))
        return Subject(
            sqs=sqs,
            backend=REGISTRY.queue("aws"),
            settings=AwsSettings(access_key="stand", secret_key="in", sqs_endpoint=sqs.url),
            # Long enough for a slow machine: tests advance the clock instead of waiting.
            lease=timedelta(seconds=60),
            advance=sqs.advance,
            region="us-east-1",
            unreachable=nowhere,
            refused=AwsSettings(access_key="stand", secret_key="wrong", sqs_endpoint=refusing_sqs),
            exactly_once=self.exactly_once,
        )


class TestFifo(TestSqs):
    exactly_once = True

    @pytest.mark.xfail(reason="FIFO queues have no delay of single messages; the message's not_before delays the task")
    def test_send_with_a_delay_is_not_early_if_supported(self, queue: Queue, subject: QueueSubject, name: str) -> None:
        super().test_send_with_a_delay_is_not_early_if_supported(queue, subject, name)
