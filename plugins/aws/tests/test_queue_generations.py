"""Which queue is the queue, at an SQS that is slow to forget and slow to list."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from sqs_lagging import LaggingSqs

from cloud_tasks.errors import InputError, NotFoundError, ProviderError
from cloud_tasks_aws.queue.generations import RETIRED_TAG, Generations, QueueShape
from cloud_tasks_aws.queue.names import generations, list_prefix, physical_name

SHAPE = QueueShape(fifo=False, attributes={"SqsManagedSseEnabled": "true"}, tags={"cloud-tasks-job": "job"})
ONCE = QueueShape(fifo=True, attributes={}, tags={})

Seat = Callable[..., Generations]


@pytest.fixture
def sqs() -> LaggingSqs:
    return LaggingSqs()


@pytest.fixture
def seat(sqs: LaggingSqs) -> Seat:
    """Another process that uses the queue; it looks at the clock once a second."""
    seconds = count(1_750_000_000)

    def take(name: str = "job", shape: QueueShape = SHAPE) -> Generations:
        return Generations(sqs, "ct-", name, shape, clock=lambda: float(next(seconds)))

    return take


def test_everybody_finds_the_same_queue(sqs: LaggingSqs, seat: Seat) -> None:
    controller, worker = seat(), seat()
    controller.create()
    assert worker.current() == controller.current()
    assert sqs.tags[worker.current()] == {"cloud-tasks-job": "job"}
    assert sqs.attributes[worker.current()] == {"SqsManagedSseEnabled": "true"}


def test_who_finds_a_queue_makes_none(sqs: LaggingSqs, seat: Seat) -> None:
    seat().create()
    seat().create()
    assert len(sqs.living) == 1


def test_there_is_none_before_it_is_made(seat: Seat) -> None:
    assert not seat().exists()
    with pytest.raises(NotFoundError, match='no queue "job"'):
        seat().current()


def test_the_address_is_asked_for_once(sqs: LaggingSqs, seat: Seat) -> None:
    controller, worker = seat(), seat()
    controller.create()
    worker.current()
    before = len(sqs.calls)
    worker.current()
    controller.current()
    assert len(sqs.calls) == before


def test_a_queue_can_be_made_the_moment_after_its_deletion(sqs: LaggingSqs, seat: Seat) -> None:
    controller = seat()
    controller.create()
    old = controller.current()
    controller.delete()
    assert not controller.exists()
    controller.create()
    assert controller.current() != old
    assert sqs.living == [controller.current()]
    # The old one is listed still, and answers.
    assert old in sqs.shown
    assert seat().current() == controller.current()


def test_a_deleted_queue_that_sqs_still_shows_is_not_taken_for_living(sqs: LaggingSqs, seat: Seat) -> None:
    controller = seat()
    controller.create()
    controller.delete()
    other = seat()
    assert not other.exists()
    other.create()
    assert sqs.living == [other.current()]


def test_a_deletion_twice_is_no_error_and_leaves_nothing(sqs: LaggingSqs, seat: Seat) -> None:
    seat().create()
    seat().delete()
    sqs.forget()
    seat().delete()
    assert sqs.tags == {}


def test_a_purge_puts_another_in_its_place_and_says_which(sqs: LaggingSqs, seat: Seat) -> None:
    controller, worker = seat(), seat()
    controller.create()
    old = worker.current()
    controller.replace()
    new = controller.current()
    assert new != old
    assert sqs.living == [new]
    assert sqs.tags[old][RETIRED_TAG] == new
    worker.gone(old)
    assert worker.current() == new


def test_a_replaced_queue_leads_to_its_successor_before_that_is_listed(seat: Seat, sqs: LaggingSqs) -> None:
    slow = LaggingSqs(lists_at_once=False)
    numbers = count(1_750_000_000)
    controller, worker = (Generations(slow, "ct-", "job", SHAPE, clock=lambda: float(next(numbers))) for _ in range(2))
    controller.create()
    slow.show()
    controller.replace()
    controller.replace()
    assert worker.exists()
    assert worker.current() == controller.current()


def test_who_only_uses_a_queue_asks_for_no_marks(sqs: LaggingSqs, seat: Seat) -> None:
    controller, worker = seat(), seat()
    controller.create()
    controller.replace()
    sqs.calls.clear()
    assert worker.current() == controller.current()
    assert sqs.calls == ["ListQueues"]


def test_who_took_a_queue_that_was_on_its_way_out_looks_again(sqs: LaggingSqs, seat: Seat) -> None:
    controller, worker = seat(), seat()
    controller.create()
    controller.delete()
    old = worker.current()
    sqs.forget()
    worker.gone(old)
    with pytest.raises(NotFoundError):
        worker.current()
    controller.create()
    assert worker.current() == controller.current()


def test_what_this_process_made_is_there_before_it_is_listed() -> None:
    slow = LaggingSqs(lists_at_once=False)
    controller = Generations(slow, "ct-", "job", SHAPE)
    controller.create()
    assert controller.exists()
    controller.delete()
    assert slow.living == []


def test_there_is_nothing_to_purge_where_there_is_no_queue(seat: Seat) -> None:
    with pytest.raises(NotFoundError):
        seat().replace()


def test_a_deletion_that_was_cut_short_leaves_the_newest(sqs: LaggingSqs, seat: Seat) -> None:
    first = seat()
    first.create()
    old = first.current()
    # What a purge that was cut short leaves: two generations, none of them marked.
    sqs.create_queue(QueueName=physical_name("ct-", "job", 2**31, fifo=False), Attributes={}, tags={})
    newest = max(sqs.living)

    def fail_at_second(action: str) -> None:
        if action == "DeleteQueue" and sqs.deleted:
            raise ConnectionResetError

    sqs.before = fail_at_second
    with pytest.raises(ConnectionResetError):
        seat().delete()
    assert sqs.deleted == [old]
    assert sqs.tags[newest].get(RETIRED_TAG) == "deleted"


def test_two_that_make_the_queue_at_once_make_the_same_one(sqs: LaggingSqs, seat: Seat) -> None:
    one, other = seat(), seat()

    def other_comes_first(action: str) -> None:
        if action == "CreateQueue":
            sqs.before = lambda action: None
            one.create()

    sqs.before = other_comes_first
    other.create()
    assert other.current() == one.current()
    assert sqs.living == [one.current()]


def test_across_the_turn_of_a_minute_the_lower_number_stays(sqs: LaggingSqs) -> None:
    early = Generations(sqs, "ct-", "job", SHAPE, clock=lambda: 119.0)
    late = Generations(sqs, "ct-", "job", SHAPE, clock=lambda: 121.0)

    def early_comes_first(action: str) -> None:
        if action == "CreateQueue":
            sqs.before = lambda action: None
            early.create()

    sqs.before = early_comes_first
    late.create()
    assert late.current() == early.current()
    assert sqs.living == [early.current()]
    # The one that gave way is the newest, and is still there to be seen: it leads to the other.
    assert max(sqs.shown) != early.current()
    visitor = Generations(sqs, "ct-", "job", SHAPE)
    assert visitor.exists()
    assert visitor.current() == early.current()


def test_a_name_that_is_refused_is_not_the_last_one_tried(sqs: LaggingSqs) -> None:
    taken = physical_name("ct-", "job", 5, fifo=False)
    sqs.deleted.append(f"https://sqs.stand.in/000000000000/{taken}")
    made = Generations(sqs, "ct-", "job", SHAPE, clock=lambda: 300.0)
    made.create()
    assert made.current().endswith(physical_name("ct-", "job", 6, fifo=False))


def test_names_that_are_all_refused_are_passing_trouble(sqs: LaggingSqs) -> None:
    for number in range(5, 105):
        sqs.deleted.append(f"https://sqs.stand.in/000000000000/{physical_name('ct-', 'job', number, fifo=False)}")
    with pytest.raises(ProviderError, match="no free name") as caught:
        Generations(sqs, "ct-", "job", SHAPE, clock=lambda: 300.0).create()
    assert caught.value.transient


def test_a_clock_that_went_back_does_not_bring_an_old_queue_to_the_front(sqs: LaggingSqs) -> None:
    moments = iter([6000.0, 60.0])
    controller = Generations(sqs, "ct-", "job", SHAPE, clock=lambda: next(moments))
    controller.create()
    controller.replace()
    assert Generations(sqs, "ct-", "job", SHAPE).current() == controller.current()


def test_a_queue_that_delivers_once_stays_one_through_a_purge(sqs: LaggingSqs, seat: Seat) -> None:
    seat(shape=ONCE).create()
    plain = seat()
    assert plain.current().endswith(".fifo")
    plain.replace()
    assert plain.current().endswith(".fifo")
    assert sqs.attributes[plain.current()]["FifoThroughputLimit"] == "perMessageGroupId"


def test_queues_whose_names_begin_alike_are_not_mixed_up(sqs: LaggingSqs, seat: Seat) -> None:
    names = ("job", "job-events", "job-2", "jo")
    for name in names:
        seat(name).create()
    assert len({seat(name).current() for name in names}) == len(names)
    seat("job").delete()
    assert not seat("job").exists()
    assert all(seat(name).exists() for name in names[1:])


@pytest.mark.parametrize("other", ["ct-job_", "ct-job_zzzzzzzz", "ct-job_0197000", "ct-job_01970000.fif", "job"])
def test_a_queue_of_somebody_else_is_no_generation(other: str) -> None:
    ours = f"http://sqs/0/{physical_name('ct-', 'job', 5, fifo=False)}"
    assert [each.url for each in generations([f"http://sqs/0/{other}", ours], "ct-", "job")] == [ours]


@pytest.mark.parametrize("name", ["", "a_b", "a b", "a.fifo", "x" * 41])
def test_a_name_that_sqs_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        list_prefix("ct-", name)
