"""Parts of the queue: names, leases, request batches, delays."""

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


def test_names_keep_plain_name_after_prefix() -> None:
    found = names("p", "cloud-tasks-", "addition")
    assert found.topic == "projects/p/topics/cloud-tasks-addition"
    assert found.subscription == "projects/p/subscriptions/cloud-tasks-addition"


@pytest.mark.parametrize("name", ["a", "Straße", "a/b", "x" * 300, "goog", "", "50%"])
def test_names_are_valid_for_any_queue_name(name: str) -> None:
    assert ALLOWED.fullmatch(names("p", "ct-", name).subscription_id)


def test_names_differ_for_different_queues() -> None:
    distinct = ["a b", "a-b", "a/b", "a_b", "x" * 300, "x" * 301, "ä", "ö"]
    assert len({names("p", "ct-", name).topic for name in distinct}) == len(distinct)


def test_label_value_has_valid_characters_only() -> None:
    assert label_value("My Job/7.1") == "my-job-7-1"
    assert len(label_value("x" * 100)) == 63


# Leases


def test_lease_table_loses_expired_lease() -> None:
    clock = Clock()
    table = LeaseTable(clock)
    (lease,) = table.add(["ack"], 10)
    clock.now = 9.9
    assert [held.ack_id for held in table.split([lease])[0]] == ["ack"]
    clock.now = 10
    assert table.split([lease]) == ([], [lease])


def test_lease_table_extends_from_now() -> None:
    clock = Clock()
    table = LeaseTable(clock)
    (lease,) = table.add(["ack"], 10)
    clock.now = 9
    table.extended(table.split([lease])[0], 10)
    clock.now = 18
    assert table.split([lease])[1] == []
    clock.now = 19
    assert table.split([lease])[1] == [lease]


def test_lease_table_reports_unknown_lease_once() -> None:
    table = LeaseTable(Clock())
    (lease,) = table.add(["ack"], 10)
    table.forget([lease])
    assert table.split([lease, "foreign", lease]) == ([], [lease, "foreign"])


def test_lease_table_makes_new_lease_for_repeated_ack_id() -> None:
    table = LeaseTable(Clock())
    first, second = table.add(["same"], 10) + table.add(["same"], 10)
    assert first != second
    table.forget([first])
    assert table.split([first, second])[1] == [first]


def test_lease_table_ids_differ_between_consumers() -> None:
    assert LeaseTable(Clock()).add(["a"], 1) != LeaseTable(Clock()).add(["a"], 1)


def test_lease_table_drops_expired_leases() -> None:
    clock = Clock()
    table = LeaseTable(clock)
    for _ in range(100):
        table.add([str(number) for number in range(100)], 1)
        clock.now += 1
    assert len(table) <= 2000


# Requests


def test_batches_respect_entry_and_byte_limits() -> None:
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


def test_split_due_separates_early_messages() -> None:
    clock = Clock()
    late = delay_attributes(timedelta(seconds=30), clock)
    clock.now = 10.5
    received = [Received("due", {}), Received("early", late)]
    due, early = split_due(received, clock)
    assert ([each.ack_id for each in due], early) == (["due"], {20: ["early"]})
    clock.now = 30
    assert [each.ack_id for each in split_due(received, clock)[0]] == ["due", "early"]


def test_split_due_treats_unreadable_due_time_as_due() -> None:
    (name,) = delay_attributes(timedelta(seconds=1))
    due, early = split_due([Received("a", {name: "tomorrow"})])
    assert (len(due), early) == (1, {})


def test_split_due_limits_hiding_to_max_ack_deadline() -> None:
    clock = Clock()
    _, early = split_due([Received("a", delay_attributes(timedelta(days=3), clock))], clock)
    assert early == {600: ["a"]}
