"""The SQS queue of a queue name, against an SQS fake with delayed creation and deletion."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqs_lagging import LaggingSqs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks.plugin import QueueContext
from cloud_tasks_aws.queue import named_queue as module
from cloud_tasks_aws.queue.named_queue import DELETED_TAG, NamedQueue, name_in_sqs

NAME = "job-0123456789abcdef-1"

OpenProcess = Callable[..., NamedQueue]


@pytest.fixture
def sqs() -> LaggingSqs:
    return LaggingSqs()


@pytest.fixture
def seconds() -> list[float]:
    """The clock of all processes."""
    return [0.0]


@pytest.fixture
def open_process(sqs: LaggingSqs, seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> OpenProcess:
    """Opens the queue as another process would."""
    monkeypatch.setattr(module, "_NEW_PAUSE", 0)

    def opened(name: str = NAME, **changes: Any) -> NamedQueue:
        context = QueueContext(job_id="job", name=name, lease=timedelta(seconds=60), **changes)
        return NamedQueue(sqs, "ct-", context, clock=lambda: seconds[0])

    return opened


def use(sqs: LaggingSqs, queue: NamedQueue) -> Any:
    return queue.call("reading", lambda url: sqs.list_queue_tags(QueueUrl=url))


def test_create_sets_encryption_and_tags(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller, worker = open_process(), open_process()
    controller.create()
    assert worker.url() == controller.url()
    assert sqs.tags[worker.url()] == {"cloud-tasks-job": "job", "cloud-tasks-queue": NAME}
    assert sqs.attributes[worker.url()]["SqsManagedSseEnabled"] == "true"


def test_create_sets_the_tags_of_the_settings(sqs: LaggingSqs) -> None:
    context = QueueContext(job_id="job", name=NAME, lease=timedelta(seconds=60))
    queue = NamedQueue(sqs, "ct-", context, tags={"CostCenter": "42"})
    queue.create()
    assert sqs.tags[queue.url()]["CostCenter"] == "42"
    assert sqs.tags[queue.url()]["cloud-tasks-job"] == "job"


def test_create_of_an_existing_queue_creates_none(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    open_process().create()
    open_process().create()
    assert len(sqs.existing) == 1


def test_create_of_a_queue_with_other_attributes_uses_it(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    sqs.create_queue(QueueName=name_in_sqs("ct-", NAME, fifo=False), Attributes={}, tags={})
    queue = open_process()
    queue.create()
    assert [queue.url()] == sqs.existing


def test_url_without_queue_raises_not_found(open_process: OpenProcess) -> None:
    assert not open_process().exists()
    with pytest.raises(NotFoundError, match=f'queue "{NAME}" not found'):
        open_process().url()


def test_url_is_cached(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller, worker = open_process(), open_process()
    controller.create()
    worker.url()
    before = len(sqs.calls)
    worker.url()
    controller.url()
    assert len(sqs.calls) == before


def test_deleted_queue_does_not_exist_although_sqs_still_answers(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller = open_process()
    controller.create()
    controller.delete()
    assert controller.url() in sqs.tags
    assert not controller.exists()
    assert not open_process().exists()


def test_create_after_delete_is_transient_until_sqs_has_deleted_the_queue(
    sqs: LaggingSqs, open_process: OpenProcess
) -> None:
    controller = open_process()
    controller.create()
    controller.delete()
    for process in (controller, open_process()):
        with pytest.raises(ProviderError, match=r"QueueDeletedRecently.*minute") as caught:
            process.create()
        assert caught.value.transient
    sqs.forget()
    controller.create()
    assert open_process().exists()


def test_create_after_an_interrupted_delete_uses_the_queue(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller = open_process()
    controller.create()

    def interrupt(action: str) -> None:
        if action == "DeleteQueue":
            raise ConnectionResetError

    sqs.before = interrupt
    with pytest.raises(ConnectionResetError):
        controller.delete()
    assert not controller.exists()
    assert sqs.tags[controller.url()][DELETED_TAG] == "yes"
    resumed = open_process()
    resumed.create()
    assert resumed.exists()
    assert controller.exists()


def test_create_without_url_in_the_response_is_transient(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    sqs.create_queue = lambda **arguments: {}  # type: ignore[method-assign]
    with pytest.raises(ProviderError, match="QueueUrl") as caught:
        open_process().create()
    assert caught.value.transient


def test_delete_twice_is_no_error(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    open_process().create()
    open_process().delete()
    sqs.forget()
    open_process().delete()
    assert sqs.tags == {}


def test_call_of_a_new_queue_waits_until_it_is_known(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    sqs.unknown_calls = 5
    controller = open_process()
    controller.create()
    assert controller.exists()
    use(sqs, controller)
    assert len(sqs.existing) == 1


def test_delete_of_a_new_queue_waits_until_it_is_known(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller = open_process()
    controller.create()
    sqs._unknown[controller.url()] = 5
    controller.delete()
    assert sqs.existing == []


def test_call_of_an_old_queue_that_was_deleted_raises_not_found(
    sqs: LaggingSqs, open_process: OpenProcess, seconds: list[float]
) -> None:
    controller = open_process()
    controller.create()
    open_process().delete()
    sqs.forget()
    seconds[0] = 5.0
    with pytest.raises(NotFoundError):
        use(sqs, controller)
    assert not controller.exists()


def test_call_of_a_queue_that_another_process_created_succeeds_later(
    sqs: LaggingSqs, open_process: OpenProcess
) -> None:
    sqs.unknown_calls = 4
    open_process().create()
    sqs._unknown[sqs.existing[0]] = 2
    worker = open_process()
    for _ in range(2):
        with pytest.raises(NotFoundError):
            use(sqs, worker)
    use(sqs, worker)


@pytest.mark.parametrize("fifo", [False, True])
def test_url_finds_a_queue_of_either_type(sqs: LaggingSqs, open_process: OpenProcess, fifo: bool) -> None:
    open_process(exactly_once=fifo).create()
    other = open_process(exactly_once=not fifo)
    assert other.url().endswith(".fifo") == fifo
    other.create()
    assert len(sqs.existing) == 1
    other.delete()
    assert sqs.existing == []


def test_create_of_an_event_queue_creates_no_fifo_queue(open_process: OpenProcess) -> None:
    queue = open_process(exactly_once=True, for_events=True)
    queue.create()
    assert not queue.url().endswith(".fifo")


NAMES = st.text(max_size=100) | st.from_regex(r"[a-z][-a-z0-9]{0,62}-[0-9a-f]{16}-[0-9]{1,3}(-events)?", fullmatch=True)


@given(NAMES)
def test_name_in_sqs_is_valid_for_every_name(name: str) -> None:
    for prefix in ("", "cloud-tasks-", "x" * 20):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,75}\.fifo", name_in_sqs(prefix, name, fifo=True))


@given(NAMES, NAMES)
def test_name_in_sqs_of_different_names_differs(first: str, second: str) -> None:
    assert (name_in_sqs("ct-", first, fifo=False) == name_in_sqs("ct-", second, fifo=False)) == (first == second)


def test_name_in_sqs_keeps_valid_names() -> None:
    name = f"{'j' * 24}-{'0' * 16}-99-events"
    assert name_in_sqs("cloud-tasks-", name, fifo=False) == f"cloud-tasks-{name}"
