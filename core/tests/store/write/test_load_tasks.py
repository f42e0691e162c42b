"""Loading tasks: atomic, in constant memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_facts import new_store

from cloud_tasks.builtin import open_task_source
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task, TaskStatus
from cloud_tasks.store import Store


def tasks(count: int, first: int = 0) -> Iterator[Task]:
    return (Task(task_id=f"t{number}", data={"n": number}) for number in range(first, first + count))


def loaded(store: Store) -> list[str]:
    return [task.task_id for task in store.export_tasks(TaskStatus)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as store:
        yield store


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1000, 2345])
def test_load_tasks_keeps_the_input_order(store: Store, count: int) -> None:
    assert store.load_tasks(tasks(count)) == count
    assert loaded(store) == [f"t{number}" for number in range(count)]
    assert store.summary().total == store.summary().counts[TaskStatus.PENDING] == count


@pytest.mark.parametrize(
    ("start", "limit", "expected"),
    [(0, 2, ["t0", "t1"]), (3, None, ["t3", "t4"]), (1, 2, ["t1", "t2"]), (9, 2, []), (0, 0, []), (0, 9, None)],
)
def test_load_tasks_with_start_and_limit_loads_a_part(
    store: Store, start: int, limit: int | None, expected: list[str] | None
) -> None:
    expected = ["t0", "t1", "t2", "t3", "t4"] if expected is None else expected
    assert store.load_tasks(tasks(5), start=start, limit=limit) == len(expected)
    assert loaded(store) == expected


def test_load_tasks_reads_nothing_beyond_the_limit(store: Store) -> None:
    def endless() -> Iterator[Task]:
        number = 0
        while True:
            yield Task(task_id=str(number))
            number += 1
            assert number <= 10

    assert store.load_tasks(endless(), limit=10) == 10


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 99), (99, 100), (5, 1000), (17, 2344)])
def test_load_tasks_rejects_a_duplicate_and_keeps_nothing(store: Store, first: int, second: int) -> None:
    entries = list(tasks(2345))
    entries[second] = entries[first]
    with pytest.raises(InputError) as caught:
        store.load_tasks(entries, where="tasks.json")
    expected = f'tasks.json: task {second + 1}: duplicate id "t{first}", already used by task {first + 1}'
    assert str(caught.value).startswith(expected)
    assert loaded(store) == []
    assert store.summary().total == 0
    assert store.load_tasks(tasks(3)) == 3


def test_duplicate_error_counts_skipped_tasks(store: Store) -> None:
    with pytest.raises(InputError, match=r'task 5: duplicate id "t2", already used by task 3'):
        store.load_tasks([*tasks(4), Task(task_id="t2")], start=1)


def test_second_load_tasks_adds_to_the_first(store: Store) -> None:
    store.load_tasks(tasks(3))
    assert store.load_tasks(tasks(2, first=3)) == 2
    assert loaded(store) == ["t0", "t1", "t2", "t3", "t4"]
    with pytest.raises(InputError, match='task 2: duplicate id "t1", already used by a task loaded earlier'):
        store.load_tasks([Task(task_id="new"), Task(task_id="t1")])
    assert store.summary().total == 5


def test_load_tasks_keeps_nothing_when_the_source_raises(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"id": str(n), "data": {}} for n in range(1500)])[:-1])
    with open_task_source(None, path) as source, pytest.raises(InputError, match="the file ends in the middle"):
        store.load_tasks(source)
    assert loaded(store) == []


def test_duplicate_error_names_the_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text('[{"id": "a", "data": {}}, {"id": "a", "data": {}}]')
    with open_task_source(None, path) as source, pytest.raises(InputError) as caught:
        store.load_tasks(source)
    assert str(caught.value).startswith(f'{path}: task 2: duplicate id "a", already used by task 1')


def _circular() -> dict[str, object]:
    value: dict[str, object] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize("data", [{"x": {1, 2}}, {"x": object()}, {"x": b"bytes"}, _circular(), {(1, 2): 3}])
def test_load_tasks_rejects_data_that_json_cannot_represent(store: Store, data: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r'task 2 \("b"\): cannot be encoded as JSON'):
        store.load_tasks([Task(task_id="a"), Task(task_id="b", data=data)])
    assert loaded(store) == []


def test_task_data_is_returned_as_loaded(store: Store) -> None:
    data = {"big": 10**30, "float": 0.1, "text": "\ud800 \u00e9 \U0001f600 \0", "deep": [{"a": None, "b": True}]}
    store.load_tasks([Task(task_id="\u00e9\0", data=data)])
    (message,) = store.pending_tasks(10)
    assert (message.task_id, message.data) == ("\u00e9\0", data)
    assert store.mark_queued([message.task_id]) == 1


def test_load_tasks_uses_constant_memory(tmp_path: Path) -> None:
    program = (
        "import re, sys; from pathlib import Path; from store_facts import JOB\n"
        "from cloud_tasks.model import Task; from cloud_tasks.store import Store\n"
        "store = Store.create(Path(sys.argv[1]), JOB)\n"
        "store.load_tasks(Task(task_id=f'addition-task-{n:07d}', data={'n': n}) for n in range(int(sys.argv[2])))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )

    def peak_mb(count: int) -> float:
        arguments = [sys.executable, "-c", program, str(tmp_path / f"{count}.db"), str(count)]
        support = str(Path(__file__).parents[2] / "support")
        output = subprocess.run(arguments, check=True, capture_output=True, text=True, env={"PYTHONPATH": support})
        return int(output.stdout) / 1024

    assert peak_mb(80_000) < 60
