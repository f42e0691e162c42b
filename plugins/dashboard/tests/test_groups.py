"""Failures that are alike, together."""

from __future__ import annotations

from cloud_tasks.model import AttemptOutcome
from cloud_tasks_dashboard.groups import MOST_GROUPS, FailureGroups


def add(
    groups: FailureGroups, reason: str, *, at: float = 1.0, outcome: AttemptOutcome = AttemptOutcome.EXCEPTION
) -> None:
    groups.add(outcome, reason, at=at, event=int(at), task=int(at))


def test_the_same_words_with_other_numbers_are_one_failure() -> None:
    groups = FailureGroups()
    add(groups, "ValueError: bad tile 17 at 0x7f3a", at=1)
    add(groups, "ValueError: bad tile 18 at 0x7f3b", at=2)
    (group,) = groups.top(10)
    assert (group.count, group.alike, group.first_at, group.last_at) == (2, False, 1, 2)
    assert (group.summary, group.event) == ("ValueError: bad tile 18 at 0x7f3b", 2)


def test_the_latest_is_shown_whatever_the_order_in_which_they_are_heard() -> None:
    groups = FailureGroups()
    add(groups, "KeyError: 2", at=5)
    add(groups, "KeyError: 1", at=3)
    (group,) = groups.top(10)
    assert (group.summary, group.first_at, group.last_at, group.event) == ("KeyError: 2", 3, 5, 5)


def test_exit_codes_tell_failures_apart() -> None:
    groups = FailureGroups()
    add(groups, "exit code 1", outcome=AttemptOutcome.EXITED)
    add(groups, "exit code 137", outcome=AttemptOutcome.EXITED)
    assert {group.summary for group in groups.top(10)} == {"exit code 1", "exit code 137"}


def test_the_same_words_for_another_end_are_another_failure() -> None:
    groups = FailureGroups()
    add(groups, "stopped")
    add(groups, "stopped", outcome=AttemptOutcome.LOST)
    assert len(groups) == 2


def test_the_most_frequent_come_first_and_losses_last() -> None:
    groups = FailureGroups()
    for _ in range(9):
        add(groups, "termination notice", outcome=AttemptOutcome.LOST)
    for _ in range(3):
        add(groups, "ValueError: often")
    add(groups, "ValueError: once")
    assert [group.count for group in groups.top(10)] == [3, 1, 9]
    assert [group.count for group in groups.top(1)] == [3]


def test_an_end_without_words_is_given_some() -> None:
    groups = FailureGroups()
    add(groups, "", outcome=AttemptOutcome.TIMED_OUT)
    assert groups.top(1)[0].summary == "ran out of time"


def test_failures_that_all_differ_do_not_take_the_memory() -> None:
    groups = FailureGroups()
    words = [f"{'x' * (number % 97)}{'y' * (number // 97)}" for number in range(5000)]
    for number, word in enumerate(words):
        add(groups, f"{'Value' if number % 2 else 'Key'}Error: {word}", at=number)
        add(groups, f"{word}Error: {word}", at=number, outcome=AttemptOutcome.RETRY_REQUESTED)
    assert len(groups) <= MOST_GROUPS
    assert sum(group.count for group in groups.top(MOST_GROUPS)) == 10_000
