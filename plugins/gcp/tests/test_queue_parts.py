"""The small parts of the queue: names, leases, requests, delays."""

from __future__ import annotations

import re
from datetime import timedelta

import attrs
import pytest

from cloud_tasks_gcp.queue.batches import batches
from cloud_tasks_gcp.queue.delays import delay_attributes, split_due
from cloud_tasks_gcp.queue.leases import LeaseTable
from cloud_tasks_gcp.queue.names import label_value, names

ALLOWED = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9_.~+-]{2,254}")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# Names


def test_a_plain_name_is_kept_behind_the_prefix() -> None:
    found = names("p", "cloud-tasks-", "addition")
    assert found.topic == "projects/p/topics/cloud-tasks-addition"
    assert found.subscription == "projects/p/subscriptions/cloud-tasks-addition"


@pytest.mark.parametrize("name", ["a", "Straße", "a/b", "x" * 300, "goog", "", "50%"])
def test_whatever_a_queue_is_called_pub_sub_takes_its_name(name: str) -> None:
    assert ALLOWED.fullmatch(names("p", "ct-", name).subscription_id)


def test_queues_of_different_names_have_different_topics() -> None:
    given = ["a b", "a-b", "a/b", "a_b", "x" * 300, "x" * 301, "ä", "ö"]
    assert len({names("p", "ct-", name).topic for name in given}) == len(given)


def test_a_label_has_only_what_labels_may_have() -> None:
    assert label_value("My Job/7.1") == "my-job-7-1"
    assert len(label_value("x" * 100)) == 63


# Leases


def test_a_lease_is_lost_when_its_time_is_over() -> None:
    clock = Clock()
    book = LeaseTable(clock)
    (lease,) = book.add(["ack"], 10)
    clock.now = 9.9
    assert [held.ack_id for held in book.split([lease])[0]] == ["ack"]
    clock.now = 10
    assert book.split([lease]) == ([], [lease])


def test_an_extended_lease_counts_from_now() -> None:
    clock = Clock()
    book = LeaseTable(clock)
    (lease,) = book.add(["ack"], 10)
    clock.now = 9
    book.extended(book.split([lease])[0], 10)
    clock.now = 18
    assert book.split([lease])[1] == []
    clock.now = 19
    assert book.split([lease])[1] == [lease]


def test_a_lease_that_was_settled_or_never_held_is_lost_and_told_once() -> None:
    book = LeaseTable(Clock())
    (lease,) = book.add(["ack"], 10)
    book.forget([lease])
    assert book.split([lease, "foreign", lease]) == ([], [lease, "foreign"])


def test_an_ack_id_that_comes_again_makes_another_lease() -> None:
    book = LeaseTable(Clock())
    first, second = book.add(["same"], 10) + book.add(["same"], 10)
    assert first != second
    book.forget([first])
    assert book.split([first, second])[1] == [first]


def test_two_consumers_never_give_one_lease_id() -> None:
    assert LeaseTable(Clock()).add(["a"], 1) != LeaseTable(Clock()).add(["a"], 1)


def test_the_book_has_what_is_held_and_not_what_passed_through() -> None:
    clock = Clock()
    book = LeaseTable(clock)
    for _ in range(100):
        book.add([str(number) for number in range(100)], 1)
        clock.now += 1
    assert len(book) <= 2000


# Requests


def test_a_request_has_no_more_entries_and_no_more_bytes_than_it_takes() -> None:
    assert list(batches("abcde", (2, 100), len)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches(["aaa", "bb", "c", "dddd"], (10, 5), len)) == [["aaa", "bb"], ["c", "dddd"]]
    assert list(batches([], (2, 5), len)) == []


# Delays


@attrs.frozen
class Message:
    attributes: dict[str, str]


@attrs.frozen
class Received:
    ack_id: str
    attributes: dict[str, str]

    @property
    def message(self) -> Message:
        return Message(self.attributes)


def test_a_message_is_hidden_until_it_is_due() -> None:
    clock = Clock()
    late = delay_attributes(timedelta(seconds=30), clock)
    clock.now = 10.5
    received = [Received("due", {}), Received("early", late)]
    due, early = split_due(received, clock)
    assert ([each.ack_id for each in due], early) == (["due"], {20: ["early"]})
    clock.now = 30
    assert [each.ack_id for each in split_due(received, clock)[0]] == ["due", "early"]


def test_a_message_that_is_due_in_no_understandable_way_is_due() -> None:
    (name,) = delay_attributes(timedelta(seconds=1))
    due, early = split_due([Received("a", {name: "tomorrow"})])
    assert (len(due), early) == (1, {})


def test_nothing_is_hidden_for_longer_than_a_deadline_can_be() -> None:
    clock = Clock()
    _, early = split_due([Received("a", delay_attributes(timedelta(days=3), clock))], clock)
    assert early == {600: ["a"]}
