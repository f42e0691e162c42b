"""Messages of stored tasks: the stored JSON text is sent unchanged, and equals the encoding of the task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_facts import new_store

from cloud_tasks.compact_json import compact_encoder
from cloud_tasks.convert import EncodedData, decode_task_message, encode_task_message
from cloud_tasks.model import Task, TaskMessage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
encode = compact_encoder()


@given(
    task_id=st.text(min_size=1),
    data=st.dictionaries(st.text(), json_values, max_size=4),
    attempt=st.integers(1, 9),
    losses=st.integers(0, 9),
    not_before=st.just(0.0) | st.floats(0, 1e12),
)
def test_message_of_encoded_data_equals_that_of_decoded_data(
    task_id: str, data: dict[str, Any], attempt: int, losses: int, not_before: float
) -> None:
    fields: dict[str, Any] = {"attempt": attempt, "losses": losses, "not_before": not_before}
    decoded = TaskMessage(task_id=task_id, data=data, **fields)
    encoded = TaskMessage(task_id=task_id, data=EncodedData(encode(data)), **fields)
    body = encode_task_message(encoded)
    given_fields = {name: value for name, value in fields.items() if value != (1 if name == "attempt" else 0)}
    expected = json.dumps({"task_id": task_id, "data": data, **given_fields}, separators=(",", ":"))
    assert body == encode_task_message(decoded) == expected.encode()
    assert decode_task_message(body) == decoded == encoded


def test_encoded_data_equals_its_decoded_mapping() -> None:
    data = EncodedData('{"a":1,"b":[2]}')
    assert (data["b"], list(data), len(data), dict(data)) == ([2], ["a", "b"], 2, {"a": 1, "b": [2]})
    assert data == {"a": 1, "b": [2]} != EncodedData("{}")


def test_messages_of_stored_tasks_are_encoded_without_decoding_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"n": 1, "text": "häß", "deep": [{"x": None}]}, {"é": 0.1, "big": 10**30, "nan": float("nan")}]
    with new_store(tmp_path) as store:
        store.load_tasks(Task(task_id=f"t{number}", data=data) for number, data in enumerate(rows))
        with monkeypatch.context() as patched:
            patched.setattr(json, "loads", lambda *_: pytest.fail("the data was decoded"))
            bodies = [encode_task_message(message) for message in store.pending_tasks(10)]
    assert bodies == [
        json.dumps({"task_id": f"t{number}", "data": data}, separators=(",", ":")).encode()
        for number, data in enumerate(rows)
    ]
