"""The task table, and single tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_jobs import completed, exited, failed, make_job, started
from served import Served, serve

from cloud_tasks.errors import InputError, NotFoundError
from cloud_tasks_dashboard import task_table
from cloud_tasks_dashboard.task_table import MAX_ROWS, Page, TaskFilter, read_failure, read_page, read_task

TASKS = [f"tile-{number:03d}" for number in range(100)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = [completed(task, 10.0 + n) for n, task in enumerate(TASKS[:60])]
    events += [failed(task, 80.0 + n, message=f"no stars in {n}") for n, task in enumerate(TASKS[60:75])]
    events += [exited(TASKS[75], 99, 3), started(TASKS[76], 99)]
    return make_job(tmp_path_factory.mktemp("jobs"), TASKS, events=events)


def all_pages(path: Path, task_filter: TaskFilter, *, rows: int = 7) -> list[str]:
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page = read_page(path, task_filter, after=after, rows=rows)
        assert len(page.rows) <= rows
        found += [row["task_id"] for row in page.rows]
        after = page.after
    return found


@pytest.mark.parametrize(
    ("task_filter", "expected"),
    [
        (TaskFilter(), TASKS),
        (TaskFilter(status="completed"), TASKS[:60]),
        (TaskFilter(status="failed"), TASKS[60:75]),
        (TaskFilter(status="failed_any"), TASKS[60:76]),
        (TaskFilter(status="running"), [TASKS[76]]),
        (TaskFilter(status="queued"), TASKS[77:]),
        (TaskFilter(status="dead"), []),
        (TaskFilter(text="-07"), TASKS[70:80]),
        (TaskFilter(text="TILE-007"), [TASKS[7]]),
        (TaskFilter(text="%"), []),
        (TaskFilter(text="-07", status="failed_any"), TASKS[70:76]),
        (TaskFilter(outcome="exception", reason="ValueError: no stars in 99"), TASKS[60:75]),
        (TaskFilter(outcome="exception", reason="ValueError: other stars"), []),
        (TaskFilter(outcome="exited", reason="exit code 3"), [TASKS[75]]),
        (TaskFilter(outcome="exited", reason="exit code 4"), []),
        (TaskFilter(outcome="exited", reason="exit code 3' OR 1=1 --"), []),
    ],
)
@pytest.mark.parametrize("piece", [3, 20_000])
def test_pages_show_each_matching_task_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, task_filter: TaskFilter, expected: list[str], piece: int
) -> None:
    monkeypatch.setattr(task_table, "_CHUNK", piece)
    assert all_pages(path, task_filter) == expected


def test_scan_beyond_the_time_limit_returns_a_position_to_continue(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_table, "_CHUNK", 10)
    monkeypatch.setattr(task_table, "_TIME_LIMIT", 0.0)
    task_filter = TaskFilter(text="tile-099")
    clock = iter(range(10_000))
    monkeypatch.setattr(task_table, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(clock) / 10)}))
    monkeypatch.setattr(task_table, "_TIME_LIMIT", 0.25)
    first = read_page(path, task_filter)
    assert (first.rows, first.after, first.scanned, first.total) == ([], 20, 20, 100)
    assert all_pages(path, task_filter) == ["tile-099"]


def test_status_without_tasks_is_not_scanned(path: Path) -> None:
    assert read_page(path, TaskFilter(status="dead")) == Page(rows=(), after=None, scanned=100, total=100)


def test_row_has_host_and_reason(path: Path) -> None:
    (row,) = read_page(path, TaskFilter(text="tile-075")).rows
    assert row == {
        "task_id": "tile-075",
        "status": "exited",
        "attempt": 1,
        "losses": 0,
        "seconds": 0.5,
        "ended_at": pytest.approx(1772366499.0),
        "host": "h1",
        "reason": "exit code 3",
    }


def test_unknown_status_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match='unknown status "asleep"'):
        read_page(path, TaskFilter(status="asleep"))


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "rows=1e9", "after=99999999999999999999", "status=asleep", "outcome=bored"]
)
def test_invalid_query_gets_a_400_response(served: Served, query: str) -> None:
    answer = served.ask(f"api/job/job.db/tasks?{query}")
    assert answer.status == 400
    assert answer.json()["error"]


def test_rows_per_page_are_limited(tmp_path: Path) -> None:
    path = make_job(tmp_path, [f"t{number}" for number in range(MAX_ROWS + 5)])
    assert len(read_page(path, TaskFilter(), rows=10**9).rows) == MAX_ROWS
    assert len(read_page(path, TaskFilter(), rows=0).rows) == 1


def test_task_has_its_attempts_with_results_and_tracebacks(tmp_path: Path) -> None:
    trace = 'Traceback (most recent call last):\n  File "w.py", line 1\nValueError: bad'
    events = [
        started("a", 1),
        failed("a", 2, retry=True, trace=trace, printed=f"reading\n{trace}"),
        started("a", 3, 2),
        completed("a", 5, 2, elapsed=2.0, result={"sum": 3}),
    ]
    task = read_task(make_job(tmp_path, ["a"], events=events), "a")
    first, second = task["attempts"]
    assert (task["status"], task["data"]) == ("completed", '{\n  "of": "a"\n}')
    assert (first["outcome"], first["reason"], first["stack_trace"]) == ("exception", "ValueError: bad", trace)
    assert first["log_tail"] == "reading"
    assert (second["outcome"], second["seconds"], second["result"]) == ("completed", 2.0, '{\n  "sum": 3\n}')


def test_unknown_task_is_not_found(path: Path) -> None:
    with pytest.raises(NotFoundError, match='no task "x"'):
        read_task(path, "x")
    with pytest.raises(NotFoundError):
        read_failure(path, 10**12)


def test_long_texts_are_truncated_with_a_note(tmp_path: Path) -> None:
    events = [failed("a", 1, trace="t" * 50_000, printed="begin" + "o" * 50_000 + "end")]
    task = read_task(make_job(tmp_path, ["a"], events=events), "a")
    (attempt,) = task["attempts"]
    assert attempt["stack_trace"].startswith("ttt")
    assert attempt["stack_trace"].endswith("(30,000 more characters omitted; `cloud-tasks logs` shows them)")
    assert attempt["log_tail"].endswith("oooend")
    assert "30,008 more characters" in attempt["log_tail"]


@pytest.mark.parametrize(
    "value", [float("nan"), "half a character: \ud800", {"deep": [float("inf")]}, "</script>", None]
)
def test_task_results_of_any_kind_are_shown(tmp_path: Path, value: Any) -> None:
    make_job(tmp_path, ["a"], events=[completed("a", 1, result=value)])
    with serve(tmp_path) as served:
        assert "result" in served.get("api/job/job.db/task?id=a")["attempts"][0]


def test_pickled_result_is_shown_by_type_and_size(tmp_path: Path) -> None:
    details: dict[str, Any] = {"result_type": "model.Fit", "result_bytes": 1234, "result_pickle": "Zm9v"}
    path = make_job(tmp_path, ["a"], events=[completed("a", 1, result=None, **details)])
    (attempt,) = read_task(path, "a")["attempts"]
    assert attempt["result"] == "<model.Fit, 1,234 bytes>"


def test_text_filter_matches_non_ascii_ids(tmp_path: Path) -> None:
    path = make_job(tmp_path, ["Île-1", "île-2", "ÎLE-3"])
    assert all_pages(path, TaskFilter(text="Île")) == ["Île-1", "île-2"]
    assert all_pages(path, TaskFilter(text="LE-3")) == ["ÎLE-3"]
