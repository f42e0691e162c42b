"""`validate`: number of tasks, duplicate ids, invalid data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloud_tasks.builtin import open_task_source, validate
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task


def test_validate_returns_the_number_of_tasks() -> None:
    assert validate(Task(task_id=str(number)) for number in range(2500)) == 2500


def test_validate_accepts_an_empty_source() -> None:
    assert validate([]) == 0


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 999), (5, 1000), (17, 2400)])
def test_validate_finds_a_duplicate_at_any_place(first: int, second: int) -> None:
    ids = [str(number) for number in range(2500)]
    ids[second] = ids[first]
    with pytest.raises(InputError) as caught:
        validate(Task(task_id=each) for each in ids)
    assert f'task {second + 1}: duplicate id "{first}", already used by task {first + 1}' in str(caught.value)


def test_validate_reports_a_duplicate_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"id": "a", "data": {}}, {"task_id": "a", "data": {}}]))
    with open_task_source(None, path) as source, pytest.raises(InputError) as caught:
        validate(source)
    assert str(caught.value).startswith(f'{path}: task 2: duplicate id "a", already used by task 1')


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", 1j])
def test_validate_refuses_data_that_is_not_json(value: object) -> None:
    with pytest.raises(InputError, match=r'task 2 \("b"\): cannot be encoded as JSON'):
        validate([Task(task_id="a"), Task(task_id="b", data={"value": value})])


def test_validate_refuses_an_id_that_is_not_valid_unicode() -> None:
    with pytest.raises(InputError, match=r"task 1 .*: cannot be encoded as JSON"):
        validate([Task(task_id="\ud800")])


def test_validate_raises_the_errors_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"id": "a", "data": {}}')
    with open_task_source(None, path) as source, pytest.raises(InputError, match="the file ends in the middle"):
        validate(source)
