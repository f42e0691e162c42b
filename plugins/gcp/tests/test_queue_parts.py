"""Parts of the queue: names, leases, request batches, delays."""

from __future__ import annotations

import re
from datetime import timedelta

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_tasks_gcp.queue.delays import delay_attributes, split_due
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


FULL_NAMES = st.from_regex(r"[a-z][-a-z0-9]{0,62}-[0-9a-f]{16}-[0-9]{1,3}(-events)?", fullmatch=True)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(FULL_NAMES, FULL_NAMES)
def test_names_of_different_runs_differ_and_are_the_full_names(first: str, second: str) -> None:
    found = [names("p", "cloud-tasks-", name).subscription_id for name in (first, second)]
    assert found == [f"cloud-tasks-{first}", f"cloud-tasks-{second}"]


def test_names_differ_for_different_queues() -> None:
    distinct = ["a b", "a-b", "a/b", "a_b", "x" * 300, "x" * 301, "ä", "ö"]
    assert len({names("p", "ct-", name).topic for name in distinct}) == len(distinct)


def test_label_value_has_valid_characters_only() -> None:
    assert label_value("My Job/7.1") == "my-job-7-1"
    assert len(label_value("x" * 100)) == 63


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
