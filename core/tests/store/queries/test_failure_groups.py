"""Groups of unsuccessful attempts by reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.model import AttemptOutcome
from cloud_tasks.store.queries.failure_groups import MAX_GROUPS, FailureGroups, same_group


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


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("ValueError: bad tile 17", "ValueError: bad tile 18", True),
        (
            "FileNotFoundError: [Errno 2] No such file: '/data/a.txt'",
            "FileNotFoundError: [Errno 2] No such file: 'b'",
            True,
        ),
        ("OSError: cannot open /data/x/y.fits", "OSError: cannot open relative/z.fits", True),
        (
            "exit code 1: cat: alpha.txt: No such file or directory",
            "exit code 1: cat: beta.txt: No such file or directory",
            True,
        ),
        ("exit code 1: cat: s01: No such file", "exit code 1: cat: s22: No such file", True),
        ('KeyError: "north pole"', 'KeyError: "south"', True),
        ("RuntimeError: job 3f2a9c0e-aaaa died", "RuntimeError: job 99bb-cccc1 died", True),
        ("RuntimeError: temperature -1.5e-7", "RuntimeError: temperature 3", True),
        ("ValueError: bad tile 17", "TypeError: bad tile 17", False),
        ("numpy.linalg.LinAlgError: singular", "numpy.random.Error: singular", False),
        ("exit code 1", "exit code 2", False),
        ("exit code 1: a", "exit code 2: a", False),
        ("exit code -9: a", "exit code 9: a", False),
        ("signal SIGSEGV", "signal SIGBUS", False),
        ("exit code 1: permission denied", "exit code 1: no space left", False),
        ("RuntimeError: can't read it, don't ask", "RuntimeError: can't write it, don't ask", False),
    ],
)
def test_same_group_ignores_numbers_paths_and_quoted_names(one: str, other: str, alike: bool) -> None:
    assert same_group(AttemptOutcome.EXITED, one, other) is alike


@given(st.lists(st.tuples(st.sampled_from(AttemptOutcome), st.text(max_size=30), st.integers(0, 99)), max_size=40))
def test_groups_do_not_depend_on_the_order_of_the_attempts(attempts: list[tuple[AttemptOutcome, str, int]]) -> None:
    def grouped(order: list[tuple[AttemptOutcome, str, int]]) -> set[tuple[AttemptOutcome, int, bool, float, float]]:
        groups = FailureGroups()
        for outcome, reason, at in order:
            add(groups, reason, at=at, outcome=outcome)
        return {
            (group.outcome, group.count, group.identical, group.first_at, group.last_at)
            for group in groups.top(MAX_GROUPS)
        }

    assert grouped(attempts) == grouped(attempts[::-1])


def test_grouping_takes_linear_time_for_hostile_reasons() -> None:
    for text in ("'" * 300, "a." * 150, "-" * 300, "1" * 300, "a/" * 150, "\\" * 300, "x1-" * 100):
        assert same_group(AttemptOutcome.EXCEPTION, text, text)
