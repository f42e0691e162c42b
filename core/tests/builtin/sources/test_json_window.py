"""The read size of a JSON file never changes the tasks."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_tasks.builtin.sources.json_file import JsonFileSource
from cloud_tasks.errors import InputError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
identifiers = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
tasks = st.lists(
    st.builds(lambda i, d: {"id": i, "data": d}, identifiers, st.dictionaries(st.text(), values, max_size=3)),
    max_size=5,
)


@given(tasks, st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_json_source_equals_the_json_module(
    tmp_path: Path, entries: list[dict[str, object]], chunk: int, indent: int | None, escaped: bool
) -> None:
    path = tmp_path / "tasks.json"
    try:
        path.write_text(json.dumps(entries, indent=indent, ensure_ascii=escaped), encoding="utf-8")
    except UnicodeEncodeError:
        path.write_text(json.dumps(entries, indent=indent), encoding="utf-8")
    read = list(JsonFileSource(str(path), tmp_path, chunk_bytes=chunk))
    assert [{"id": task.task_id, "data": task.data} for task in read] == json.loads(path.read_text(encoding="utf-8"))


@given(tasks.filter(bool), st.integers(1, 40), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_json_source_refuses_a_truncated_file(
    tmp_path: Path, entries: list[dict[str, object]], chunk: int, data: st.DataObject
) -> None:
    content = json.dumps(entries).encode()
    path = tmp_path / "tasks.json"
    path.write_bytes(content[: data.draw(st.integers(1, len(content) - 1))])
    with pytest.raises(InputError):
        list(JsonFileSource(str(path), tmp_path, chunk_bytes=chunk))


@pytest.mark.parametrize("chunk", [1, 7, 64, 65536])
def test_error_line_is_independent_of_the_read_size(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "tasks.json"
    good = ",\n".join(json.dumps({"id": str(number), "data": {"text": "x" * 50}}) for number in range(30))
    path.write_text(f'[\n{good},\n{{"id": "bad", "data": {{"a": truth}}}}\n]\n')
    with pytest.raises(InputError) as caught:
        list(JsonFileSource(str(path), tmp_path, chunk_bytes=chunk))
    assert caught.value.where.endswith("tasks.json:32")
    assert "task 31: not valid JSON: expecting value" in str(caught.value)


def test_json_source_memory_is_constant(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.json"
        path.write_text(json.dumps([{"id": str(number), "data": {"n": number}} for number in range(count)], indent=1))
        tracemalloc.start()
        assert sum(1 for _ in JsonFileSource(str(path), tmp_path)) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small, large = peak(5_000), peak(40_000)
    assert large < small * 1.5
