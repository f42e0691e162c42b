"""Invariants of names for services."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.plugin.kit import safe_name

ALLOWED = "a-z0-9-"
LONGEST = 40


def name(text: str) -> str:
    return safe_name(text, allowed=ALLOWED, longest=LONGEST)


# Texts that are alike, and texts of every kind.
TEXTS = st.text(max_size=100) | st.text("ab-_", max_size=60) | st.from_regex(r"a-[0-9a-f]{16}", fullmatch=True)


@given(TEXTS)
def test_name_is_valid_and_does_not_change(text: str) -> None:
    found = name(text)
    assert re.fullmatch(f"[{ALLOWED}]{{1,{LONGEST}}}", found)
    assert name(text) == found


@given(TEXTS, TEXTS)
def test_two_texts_have_two_names(first: str, second: str) -> None:
    assert (name(first) == name(second)) == (first == second)


@given(TEXTS)
def test_name_of_a_changed_text_is_the_name_of_no_valid_text(text: str) -> None:
    assert name(text) == text or name(name(text)) != name(text)


def test_valid_text_is_its_own_name() -> None:
    assert name("tasks-2026") == "tasks-2026"
    assert name("a" * LONGEST) == "a" * LONGEST


def test_changed_text_keeps_its_beginning() -> None:
    assert re.fullmatch("my-queue--[0-9a-f]{16}", name("my queue!"))
    assert name("a" * 41).startswith("a" * 23 + "-")


# Names are stored: those of an earlier version must be found again.
@pytest.mark.parametrize(
    ("text", "expected"),
    [("my queue", "my-queue-ab921efd85ee5350"), ("", "e3b0c44298fc1c14"), ("\ud800", "--91a681b998555fb4")],
)
def test_name_is_that_of_earlier_versions(text: str, expected: str) -> None:
    assert name(text) == expected
