"""Exit codes, and the number of failed tasks that a user accepts."""

from __future__ import annotations

import ast
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cloud_tasks
from cloud_tasks import exit_codes
from cloud_tasks.exit_codes import AcceptedFailures, code_of_finished


def test_exit_codes_are_documented_numbers() -> None:
    assert (exit_codes.COMPLETED, exit_codes.RUN_FAILED, exit_codes.BAD_INPUT, exit_codes.TASKS_FAILED) == (0, 1, 2, 3)
    assert (exit_codes.INTERRUPTED, exit_codes.TERMINATED) == (130, 143)


@pytest.mark.parametrize(
    ("text", "failed", "total", "code"),
    [
        ("0", 0, 4, 0),
        ("0", 1, 4, 3),
        ("2", 2, 4, 0),
        ("2", 3, 4, 3),
        ("0%", 1, 10**7, 3),
        ("50%", 2, 4, 0),
        ("50%", 3, 4, 3),
        ("0.1%", 1, 1000, 0),
        ("0.1%", 1, 999, 3),
        ("100%", 4, 4, 0),
        ("100 %", 4, 4, 0),
        ("0", 0, 0, 0),
        ("5%", 0, 0, 0),
        (" 3 ", 3, 3, 0),
    ],
)
def test_code_of_finished_compares_with_the_accepted_failures(text: str, failed: int, total: int, code: int) -> None:
    assert code_of_finished(failed, total, AcceptedFailures.parse(text)) == code


@pytest.mark.parametrize(
    "text",
    ["", "%", "-1", "1.5", "x", "101%", "100.1%", "1e3", "1,000", "٣", "nan", "5 tasks", "1" * 16, "010", "00.5%"],
)
def test_accepted_failures_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected .* got"):
        AcceptedFailures.parse(text)


@given(st.integers(0, 10**5), st.integers(0, 10**7), st.integers(0, 10**7))
def test_share_of_failed_tasks_is_compared_exactly(thousandths: int, failed: int, total: int) -> None:
    share = Fraction(thousandths, 10**5)
    accepted = AcceptedFailures.parse(f"{thousandths // 1000}.{thousandths % 1000:03}%")
    assert accepted.allow(failed, total) == (failed <= share * total)


@pytest.mark.parametrize("folder", ["cli", "worker/supervisor"])
def test_no_other_module_contains_exit_codes_as_numbers(folder: str) -> None:
    known = {exit_codes.TASKS_FAILED, exit_codes.INTERRUPTED, exit_codes.TERMINATED}
    root = Path(cloud_tasks.__file__).parent / folder
    returned = [
        (path.name, node.lineno)
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and node.value.value in known
    ]
    assert returned == []
