"""Groups of failures."""

from __future__ import annotations

from cloud_tasks.model import AttemptOutcome
from cloud_tasks_dashboard.groups import MAX_GROUPS, FailureGroups


def add(
    groups: FailureGroups, reason: str, *, at: float = 1.0, outcome: AttemptOutcome = AttemptOutcome.EXCEPTION
) -> None:
    groups.add(outcome, reason, at=at, event=int(at), task=int(at))


def test_groups_ignore_numbers_in_messages() -> None:
    groups = FailureGroups()
    add(groups, "ValueError: bad tile 17 at 0x7f3a", at=1)
    add(groups, "ValueError: bad tile 18 at 0x7f3b", at=2)
    (group,) = groups.top(10)
    assert (group.count, group.identical, group.first_at, group.last_at) == (2, False, 1, 2)
    assert (group.summary, group.event) == ("ValueError: bad tile 18 at 0x7f3b", 2)


def test_group_shows_the_latest_attempt_in_any_order_of_arrival() -> None:
    groups = FailureGroups()
    add(groups, "KeyError: 2", at=5)
    add(groups, "KeyError: 1", at=3)
    (group,) = groups.top(10)
    assert (group.summary, group.first_at, group.last_at, group.event) == ("KeyError: 2", 3, 5, 5)


def test_groups_distinguish_exit_codes() -> None:
    groups = FailureGroups()
    add(groups, "exit code 1", outcome=AttemptOutcome.EXITED)
    add(groups, "exit code 137", outcome=AttemptOutcome.EXITED)
    assert {group.summary for group in groups.top(10)} == {"exit code 1", "exit code 137"}


def test_groups_distinguish_outcomes() -> None:
    groups = FailureGroups()
    add(groups, "stopped")
    add(groups, "stopped", outcome=AttemptOutcome.LOST)
    assert len(groups) == 2


def test_groups_are_sorted_by_frequency_with_interruptions_last() -> None:
    groups = FailureGroups()
    for _ in range(9):
        add(groups, "termination notice", outcome=AttemptOutcome.LOST)
    for _ in range(3):
        add(groups, "ValueError: often")
    add(groups, "ValueError: once")
    assert [group.count for group in groups.top(10)] == [3, 1, 9]
    assert [group.count for group in groups.top(1)] == [3]


def test_group_without_a_message_has_a_default() -> None:
    groups = FailureGroups()
    add(groups, "", outcome=AttemptOutcome.TIMED_OUT)
    assert groups.top(1)[0].summary == "timed out"


def test_groups_are_bounded_for_different_messages() -> None:
    groups = FailureGroups()
    words = [f"{'x' * (number % 97)}{'y' * (number // 97)}" for number in range(5000)]
    for number, word in enumerate(words):
        add(groups, f"{'Value' if number % 2 else 'Key'}Error: {word}", at=number)
        add(groups, f"{word}Error: {word}", at=number, outcome=AttemptOutcome.RETRY_REQUESTED)
    assert len(groups) <= MAX_GROUPS
    assert sum(group.count for group in groups.top(MAX_GROUPS)) == 10_000
