"""Columns for the members of results and data in CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from store_facts import completed, failed, new_store

from cloud_tasks.report import export_rows
from cloud_tasks.report.data.member_columns import MAX_DEPTH, MAX_MEMBERS, MemberColumns

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def exported(folder: Path, results: list[Any]) -> list[dict[str, str]]:
    with new_store(folder, [f"t{n}" for n in range(len(results))]) as store:
        store.apply_events([completed(f"t{n}", details={"result": result}) for n, result in enumerate(results)])
    out = io.BytesIO()
    assert export_rows(folder / "job.db", "tasks", "csv", out) == len(results)
    return list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))


def test_export_has_a_column_for_each_member_of_an_object_result(tmp_path: Path) -> None:
    first, second, third = exported(
        tmp_path,
        [{"loss": 0.5, "model": {"layers": 3, "sizes": [1, 2]}}, {"accuracy": 1, "loss": "high", "model": None}, 7],
    )
    names = ["result.loss", "result.model.layers", "result.model.sizes", "result.accuracy", "result.model"]
    assert [name for name in first if name.startswith("result.")] == names
    assert [first[name] for name in names] == ["0.5", "3", "[1,2]", "", ""]
    assert [second[name] for name in names] == ["high", "", "", "1", ""]
    assert [third[name] for name in names] == [""] * 5
    assert [json.loads(row["result"]) for row in (first, third)] == [
        {"loss": 0.5, "model": {"layers": 3, "sizes": [1, 2]}},
        7,
    ]


def test_export_keeps_its_own_columns_first(tmp_path: Path) -> None:
    (row,) = exported(tmp_path, [{"status": "x", "task_id": True, "data": None}])
    assert list(row)[:10] == [
        "task_id", "status", "attempt", "losses", "elapsed_time", "ended_at", "hostname", "reason", "result", "data",
    ]  # fmt: skip
    assert (row["status"], row["result.status"], row["result.task_id"]) == ("completed", "x", "true")


def test_export_of_attempts_and_of_failed_tasks_has_no_member_columns(tmp_path: Path) -> None:
    with new_store(tmp_path, ["a"]) as store:
        store.apply_events([failed("a")])
    for kind in ("tasks", "attempts", "events"):
        out = io.BytesIO()
        export_rows(tmp_path / "job.db", kind, "csv", out)
        assert "result." not in out.getvalue().decode()


def test_number_of_member_columns_is_limited() -> None:
    rows = [{"result": {f"k{n}": n}} for n in range(3 * MAX_MEMBERS)]
    assert len(MemberColumns.of(rows, ["result"]).names) == MAX_MEMBERS


def test_deep_objects_are_json_below_the_limit() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH + 3):
        value = {"a": value}
    columns = MemberColumns.of([{"result": value}], ["result"])
    assert columns.names == [".".join(["result", *"a" * MAX_DEPTH])]
    assert list(columns.values({"result": value})) == [{"a": {"a": {"a": 1}}}]


@given(st.lists(VALUES, max_size=6))
def test_members_never_share_a_column_and_every_value_is_in_one(values: list[Any]) -> None:
    rows = [{"result": value} for value in values]
    columns = MemberColumns.of(rows, ["result"])
    assert len(set(columns.names)) == len(columns.names)
    for value in values:
        cells = dict(zip(columns.paths, columns.values({"result": value}), strict=True))
        if isinstance(value, dict):
            for key, member in value.items():
                if not isinstance(member, dict) or not member:
                    assert cells["result", key] == member


def test_csv_for_a_spreadsheet_has_no_formula(tmp_path: Path) -> None:
    ids = ["=1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "-5", "plain"]
    with new_store(tmp_path, ids) as store:
        store.apply_events([completed(task_id, details={"result": {"=x": "+y", "n": -5}}) for task_id in ids])
    rows = {}
    for spreadsheet in (False, True):
        out = io.BytesIO()
        export_rows(tmp_path / "job.db", "tasks", "csv", out, spreadsheet=spreadsheet)
        rows[spreadsheet] = list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))
    assert [row["task_id"] for row in rows[False]] == ids
    assert [row["task_id"] for row in rows[True]] == ["'=1+1", "'@SUM(A1)", "'=cmd|' /C calc'!A0", "-5", "plain"]
    assert {row["result.n"] for row in rows[True]} == {"-5"}
    assert "'+y" in rows[True][0].values()
