"""Generations of a queue, against an SQS fake with delayed deletion and listing."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqs_lagging import LaggingSqs

from cloud_tasks.errors import NotFoundError, ProviderError
from cloud_tasks_aws.queue import generations as module
from cloud_tasks_aws.queue.generations import RETIRED_TAG, Generations, QueueSpec
from cloud_tasks_aws.queue.names import generations, list_prefix, physical_name

SPEC = QueueSpec(fifo=False, attributes={"SqsManagedSseEnabled": "true"}, tags={"cloud-tasks-job": "job"})
FIFO = QueueSpec(fifo=True, attributes={}, tags={})

OpenProcess = Callable[..., Generations]


@pytest.fixture
def sqs() -> LaggingSqs:
    return LaggingSqs()


@pytest.fixture
def open_process(sqs: LaggingSqs) -> OpenProcess:
    """Opens the queue as another process would; its clock advances one second per call."""
    seconds = count(1_750_000_000)

    def opened(name: str = "job", spec: QueueSpec = SPEC) -> Generations:
        return Generations(sqs, "ct-", name, spec, clock=lambda: float(next(seconds)))

    return opened


def test_generations_agree_on_the_current_queue(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller, worker = open_process(), open_process()
    controller.create()
    assert worker.current() == controller.current()
    assert sqs.tags[worker.current()] == {"cloud-tasks-job": "job"}
    assert sqs.attributes[worker.current()] == {"SqsManagedSseEnabled": "true"}


def test_create_of_existing_queue_creates_none(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    open_process().create()
    open_process().create()
    assert len(sqs.existing) == 1


def test_current_before_creation_raises_not_found(open_process: OpenProcess) -> None:
    assert not open_process().exists()
    with pytest.raises(NotFoundError, match='queue "job" not found'):
        open_process().current()


def test_current_is_cached(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller, worker = open_process(), open_process()
    controller.create()
    worker.current()
    before = len(sqs.calls)
    worker.current()
    controller.current()
    assert len(sqs.calls) == before


def test_create_after_delete_uses_a_new_generation(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller = open_process()
    controller.create()
    old = controller.current()
    controller.delete()
    assert not controller.exists()
    controller.create()
    assert controller.current() != old
    assert sqs.existing == [controller.current()]
    # SQS still lists the old queue and answers for it.
    assert old in sqs.shown
    assert open_process().current() == controller.current()


def test_exists_ignores_retired_queue_still_listed(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller = open_process()
    controller.create()
    controller.delete()
    other = open_process()
    assert not other.exists()
    other.create()
    assert sqs.existing == [other.current()]


def test_delete_twice_is_no_error(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    open_process().create()
    open_process().delete()
    sqs.forget()
    open_process().delete()
    assert sqs.tags == {}


def test_replace_tags_the_old_queue_with_its_successor(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller, worker = open_process(), open_process()
    controller.create()
    old = worker.current()
    controller.replace()
    new = controller.current()
    assert new != old
    assert sqs.existing == [new]
    assert sqs.tags[old][RETIRED_TAG] == new
    sqs.forget()
    assert worker.use("reading", lambda url: url if sqs.list_queue_tags(QueueUrl=url) else "") == new


def test_exists_follows_unlisted_successor(open_process: OpenProcess, sqs: LaggingSqs) -> None:
    slow = LaggingSqs(lists_immediately=False)
    numbers = count(1_750_000_000)
    controller, worker = (Generations(slow, "ct-", "job", SPEC, clock=lambda: float(next(numbers))) for _ in range(2))
    controller.create()
    slow.list_all()
    controller.replace()
    controller.replace()
    assert worker.exists()
    assert worker.current() == controller.current()


def test_current_reads_no_tags(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller, worker = open_process(), open_process()
    controller.create()
    controller.replace()
    sqs.calls.clear()
    assert worker.current() == controller.current()
    assert sqs.calls == ["ListQueues"]


def test_use_of_a_deleted_queue_lists_again(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    controller, worker = open_process(), open_process()
    controller.create()
    controller.delete()
    worker.current()
    sqs.forget()
    with pytest.raises(NotFoundError):
        worker.use("reading", lambda url: sqs.list_queue_tags(QueueUrl=url))
    with pytest.raises(NotFoundError):
        worker.current()
    controller.create()
    assert worker.current() == controller.current()


def test_use_of_a_new_queue_waits_until_it_is_known(
    sqs: LaggingSqs, open_process: OpenProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NEW_PAUSE", 0)
    sqs.unknown_calls = 3
    controller = open_process()
    controller.create()
    assert controller.exists()
    controller.use("reading", lambda url: sqs.list_queue_tags(QueueUrl=url))
    controller.replace()
    controller.use("reading", lambda url: sqs.list_queue_tags(QueueUrl=url))
    assert sqs.existing == [controller.current()], "a queue was made twice, or not deleted"


def test_use_of_a_queue_that_was_too_new_succeeds_later(sqs: LaggingSqs) -> None:
    seconds = [1_750_000_000.0]
    controller, worker = (Generations(sqs, "ct-", "job", SPEC, clock=lambda: seconds[0]) for _ in range(2))
    sqs.unknown_calls = 1
    controller.create()
    with pytest.raises(NotFoundError):
        worker.use("reading", lambda url: sqs.list_queue_tags(QueueUrl=url))
    seconds[0] += 11
    worker.use("reading", lambda url: sqs.list_queue_tags(QueueUrl=url))
    assert worker.current() == controller.current()


def test_exists_of_own_queue_before_it_is_listed() -> None:
    slow = LaggingSqs(lists_immediately=False)
    controller = Generations(slow, "ct-", "job", SPEC)
    controller.create()
    assert controller.exists()
    controller.delete()
    assert slow.existing == []


def test_replace_without_queue_raises_not_found(open_process: OpenProcess) -> None:
    with pytest.raises(NotFoundError):
        open_process().replace()


def test_interrupted_delete_leaves_the_newest_retired(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    first = open_process()
    first.create()
    old = first.current()
    # An interrupted purge leaves two generations without a tag.
    sqs.create_queue(QueueName=physical_name("ct-", "job", 2**31, fifo=False), Attributes={}, tags={})
    newest = max(sqs.existing)

    def fail_at_second(action: str) -> None:
        if action == "DeleteQueue" and sqs.deleted:
            raise ConnectionResetError

    sqs.before = fail_at_second
    with pytest.raises(ConnectionResetError):
        open_process().delete()
    assert sqs.deleted == [old]
    assert sqs.tags[newest].get(RETIRED_TAG) == "deleted"


@pytest.mark.parametrize("number", range(3), ids=lambda number: f"before_call_{number + 1}")
def test_concurrent_create_creates_one_queue(sqs: LaggingSqs, open_process: OpenProcess, number: int) -> None:
    one, other = open_process(), open_process()
    calls = count()

    def create_first(action: str) -> None:
        if next(calls) == number:
            sqs.before = lambda action: None
            one.create()

    sqs.before = create_first
    other.create()
    assert other.current() == one.current()
    assert sqs.existing == [one.current()]


def test_concurrent_create_in_adjacent_minutes_keeps_the_lower_number(sqs: LaggingSqs) -> None:
    early = Generations(sqs, "ct-", "job", SPEC, clock=lambda: 119.0)
    late = Generations(sqs, "ct-", "job", SPEC, clock=lambda: 121.0)

    def create_early_first(action: str) -> None:
        if action == "CreateQueue":
            sqs.before = lambda action: None
            early.create()

    sqs.before = create_early_first
    late.create()
    assert late.current() == early.current()
    assert sqs.existing == [early.current()]
    # The deleted queue is the newest and still listed: its tag names the other.
    assert max(sqs.shown) != early.current()
    visitor = Generations(sqs, "ct-", "job", SPEC)
    assert visitor.exists()
    assert visitor.current() == early.current()


def test_create_tries_the_next_name_when_one_is_refused(sqs: LaggingSqs) -> None:
    taken = physical_name("ct-", "job", 5, fifo=False)
    sqs.deleted.append(f"https://sqs.fake/000000000000/{taken}")
    queue = Generations(sqs, "ct-", "job", SPEC, clock=lambda: 300.0)
    queue.create()
    assert queue.current().endswith(physical_name("ct-", "job", 6, fifo=False))


def test_create_without_free_name_is_transient(sqs: LaggingSqs) -> None:
    for number in range(5, 105):
        sqs.deleted.append(f"https://sqs.fake/000000000000/{physical_name('ct-', 'job', number, fifo=False)}")
    with pytest.raises(ProviderError, match="no free name") as caught:
        Generations(sqs, "ct-", "job", SPEC, clock=lambda: 300.0).create()
    assert caught.value.transient


def test_replace_with_clock_set_back_uses_a_higher_number(sqs: LaggingSqs) -> None:
    moments = [6000.0]
    controller = Generations(sqs, "ct-", "job", SPEC, clock=lambda: moments[-1])
    controller.create()
    moments.append(60.0)
    controller.replace()
    assert Generations(sqs, "ct-", "job", SPEC).current() == controller.current()


def test_replace_keeps_a_fifo_queue_fifo(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    open_process(spec=FIFO).create()
    plain = open_process()
    assert plain.current().endswith(".fifo")
    plain.replace()
    assert plain.current().endswith(".fifo")
    assert sqs.attributes[plain.current()]["FifoThroughputLimit"] == "perMessageGroupId"


def test_generations_of_names_with_common_prefix_are_separate(sqs: LaggingSqs, open_process: OpenProcess) -> None:
    names = ("job", "job-events", "job-2", "jo")
    for name in names:
        open_process(name).create()
    assert len({open_process(name).current() for name in names}) == len(names)
    open_process("job").delete()
    assert not open_process("job").exists()
    assert all(open_process(name).exists() for name in names[1:])


@pytest.mark.parametrize("other", ["ct-job_", "ct-job_zzzzzzzz", "ct-job_0197000", "ct-job_01970000.fif", "job"])
def test_generations_ignores_other_names(other: str) -> None:
    own = f"http://sqs/0/{physical_name('ct-', 'job', 5, fifo=False)}"
    assert [each.url for each in generations([f"http://sqs/0/{other}", own], "ct-", "job")] == [own]


NAMES = st.text(max_size=100) | st.from_regex(r"[a-z][-a-z0-9]{0,62}-[0-9a-f]{16}-[0-9]{1,3}(-events)?", fullmatch=True)


@given(NAMES)
def test_physical_name_is_valid_for_every_name(name: str) -> None:
    for prefix in ("", "cloud-tasks-", "x" * 20):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,75}\.fifo", physical_name(prefix, name, 2**31, fifo=True))


@given(NAMES, NAMES)
def test_list_prefix_of_different_names_differs(first: str, second: str) -> None:
    assert (list_prefix("ct-", first) == list_prefix("ct-", second)) == (first == second)


def test_list_prefix_keeps_valid_names() -> None:
    name = f"{'j' * 24}-{'0' * 16}-99-events"
    assert list_prefix("cloud-tasks-", name) == f"cloud-tasks-{name}_"
    shortened = list_prefix("ct-", "x" * 90).removeprefix("ct-").removesuffix("_")
    assert list_prefix("ct-", shortened) != list_prefix("ct-", "x" * 90)
