"""Messages, leases and batch calls of a queue, each by itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks_aws.queue.bodies import BATCH_BYTES, BATCH_ENTRIES, Encoded, batches, decode, encode
from cloud_tasks_aws.queue.leases import LeaseBook
from cloud_tasks_aws.queue.parallel import Threads, carry_out

HOUR = timedelta(hours=1).total_seconds()
URL = "http://sqs/0/queue"


# Messages


@given(st.binary(max_size=300))
def test_any_bytes_arrive_as_they_were(body: bytes) -> None:
    message = encode(0, body)
    assert message.text
    assert decode(message.text, message.form) == body


@given(st.text(max_size=100))
def test_what_travels_as_text_has_only_characters_that_sqs_takes(text: str) -> None:
    message = encode(0, text.encode(errors="replace"))
    for character in message.text:
        code = ord(character)
        assert (
            code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or 0x10000 <= code <= 0x10FFFF
        )


def test_what_is_not_of_our_making_arrives_as_it_is() -> None:
    assert decode("no base64!", "base64") == b"no base64!"
    assert decode("text", "unheard-of") == b"text"


def test_json_travels_as_it_is() -> None:
    assert encode(3, b'{"task_id": "t"}') == Encoded(3, '{"task_id": "t"}')


@given(st.lists(st.integers(1, BATCH_BYTES), max_size=60))
def test_no_call_carries_more_than_it_may_and_nothing_is_left_out(sizes: list[int]) -> None:
    messages = [Encoded(index, "x" * size) for index, size in enumerate(sizes)]
    made = list(batches(messages))
    assert [message for batch in made for message in batch] == messages
    for batch in made:
        assert 1 <= len(batch) <= BATCH_ENTRIES
        assert sum(message.size for message in batch) <= BATCH_BYTES


def test_attributes_count() -> None:
    plain, marked = Encoded(0, "x" * 100), Encoded(0, "x" * 100, "base64")
    assert plain.size == 100
    assert marked.size == 100 + len("cloud-tasks-form") + len("String") + len("base64")


# Leases


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> LeaseBook:
    return LeaseBook(clock)


def split(book: LeaseBook, *handles: str) -> tuple[list[str], list[str]]:
    held, lost = book.split(handles)
    return [each.handle for each in held], lost


def test_a_lease_is_held_until_it_ends(book: LeaseBook, clock: Clock) -> None:
    book.add(URL, "a", 60.0)
    clock.now += 59.9
    assert split(book, "a") == (["a"], [])
    clock.now += 0.2
    assert split(book, "a") == ([], ["a"])


def test_a_lease_that_was_never_held_here_is_lost(book: LeaseBook) -> None:
    assert split(book, "elsewhere") == ([], ["elsewhere"])


def test_a_lease_that_was_settled_is_lost(book: LeaseBook) -> None:
    book.add(URL, "a", 60.0)
    book.forget(["a"])
    assert split(book, "a") == ([], ["a"])


def test_a_lease_that_is_named_twice_counts_once(book: LeaseBook) -> None:
    book.add(URL, "a", 60.0)
    assert split(book, "a", "gone", "a", "gone") == (["a"], ["gone"])


def test_an_extension_counts_from_now(book: LeaseBook, clock: Clock) -> None:
    book.add(URL, "a", 60.0)
    clock.now += 50
    book.extended("a", clock.now + 60.0)
    clock.now += 50
    assert split(book, "a") == (["a"], [])


def test_extensions_end_before_twelve_hours_and_a_warning_comes_once(
    book: LeaseBook, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "cloud_tasks_aws")
    book.add(URL, "a", 60.0)
    began, granted, warned_at = clock.now, [], 0.0
    while held := book.split(["a"])[0]:
        granted.append(book.allowed(held[0], 60.0))
        if caplog.records and not warned_at:
            warned_at = clock.now - began
        book.extended("a", clock.now + granted[-1])
        clock.now += 20.0
    assert set(granted[:2000]) == {60}
    assert 11.9 * HOUR < clock.now - began <= 12 * HOUR
    assert 11 * HOUR < warned_at < 11.6 * HOUR
    assert len(caplog.records) == 1
    assert "12" in caplog.text


def test_no_extension_is_asked_for_beyond_the_ceiling(book: LeaseBook, clock: Clock) -> None:
    book.add(URL, "a", 60.0)
    (held, *_), _ = book.split(["a"])
    assert book.allowed(held, 12 * HOUR) < 12 * HOUR
    clock.now += 12 * HOUR
    assert book.allowed(held, 60.0) == 0


def test_what_is_never_settled_does_not_fill_the_memory(book: LeaseBook, clock: Clock) -> None:
    for number in range(20_000):
        book.add(URL, str(number), 60.0)
        clock.now += 1.0
    assert len(book) < 2000


# Batch calls


def entries(count: int) -> list[dict[str, str]]:
    return [{"Id": str(number)} for number in range(count)]


class Service:
    """Answers batch calls; fails entries as told: (id, code, sender's fault) by call."""

    def __init__(self, *plan: Sequence[tuple[str, str, bool]]) -> None:
        self.plan = list(plan)
        self.asked: list[list[str]] = []

    def __call__(self, some: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        self.asked.append([entry["Id"] for entry in some])
        failing = {entry: (code, sender) for entry, code, sender in (self.plan.pop(0) if self.plan else ())}
        return {
            "Successful": [{"Id": entry["Id"]} for entry in some if entry["Id"] not in failing],
            "Failed": [{"Id": entry, "Code": code, "SenderFault": sender} for entry, (code, sender) in failing.items()],
        }


def quickly(seconds: float) -> None:
    assert 0 < seconds < 5


def test_only_the_entry_that_failed_in_passing_is_tried_again() -> None:
    service = Service([("2", "InternalError", False)])
    assert carry_out(service, entries(4), sleep=quickly) == {}
    assert service.asked == [["0", "1", "2", "3"], ["2"]]


def test_an_entry_that_failed_for_good_is_told_and_not_tried_again() -> None:
    service = Service([("1", "AWS.SimpleQueueService.ReceiptHandleIsInvalid", True)])
    failures = carry_out(service, entries(2), sleep=quickly)
    assert {key: (why.code, why.transient) for key, why in failures.items()} == {"1": ("ReceiptHandleIsInvalid", False)}
    assert len(service.asked) == 1


def test_a_throttled_entry_is_nobodys_fault_whatever_the_answer_says() -> None:
    service = Service([("0", "RequestThrottled", True)])
    assert carry_out(service, entries(1), sleep=quickly) == {}


def test_trouble_that_does_not_pass_is_told_as_passing() -> None:
    service = Service(*[[("0", "InternalError", False)]] * 50)
    failures = carry_out(service, entries(2), sleep=quickly)
    assert failures["0"].transient
    assert failures.keys() == {"0"}
    assert len(service.asked) < 10


def test_work_that_is_alone_stays_in_its_thread() -> None:
    threads = Threads(4, "test")
    assert threads.map(lambda _: threading.current_thread(), [1]) == [threading.current_thread()]
    assert threading.current_thread() not in threads.map(lambda _: threading.current_thread(), [1, 2, 3])
    assert threads.map(lambda number: number * 2, range(100)) == [number * 2 for number in range(100)]
    threads.close()
