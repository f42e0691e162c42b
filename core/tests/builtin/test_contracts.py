"""Built-in sources and sinks pass the contracts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloud_tasks import builtin
from cloud_tasks.model import Task
from cloud_tasks.plugin import EventSinkContext, TaskSourceContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import EventSinkContract, EventSinkSubject, TaskSourceContract, TaskSourceSubject

REGISTRY = Registry(builtins=[("builtin", builtin)], only=())
TASKS = [Task(task_id="a", data={"x": 1}), Task(task_id="b", data={})]
CONTENT = {
    "json": '[{"id": "a", "data": {"x": 1}}, {"id": "b", "data": {}}]',
    "jsonl": '{"id": "a", "data": {"x": 1}}\n{"id": "b", "data": {}}\n',
    "yaml": "- {id: a, data: {x: 1}}\n- {id: b, data: {}}\n",
}


class TestTaskFiles(TaskSourceContract):
    @pytest.fixture(params=CONTENT)
    def subject(self, request: pytest.FixtureRequest, tmp_path: Path) -> TaskSourceSubject:
        (tmp_path / "good").write_text(CONTENT[request.param])
        (tmp_path / "bad").write_text(CONTENT[request.param][:-5])
        return TaskSourceSubject(
            backend=REGISTRY.task_source(request.param),
            context=TaskSourceContext(location="good", base_dir=tmp_path),
            expected=TASKS,
            broken=[TaskSourceContext(location=name, base_dir=tmp_path) for name in ("bad", "missing")],
        )


class TestGrid(TaskSourceContract):
    @pytest.fixture
    def subject(self) -> TaskSourceSubject:
        return TaskSourceSubject(
            backend=REGISTRY.task_source("grid"),
            context=TaskSourceContext(location="n=1,2"),
            expected=[Task(task_id="n=1", data={"n": 1}), Task(task_id="n=2", data={"n": 2})],
            broken=[TaskSourceContext(location="n")],
        )


class TestJsonLinesSink(EventSinkContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> EventSinkSubject:
        path = tmp_path / "events.jsonl"
        return EventSinkSubject(
            backend=REGISTRY.event_sink("jsonl"),
            context=EventSinkContext(job_id="job", output_file=path),
            read_back=lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else [],
        )


class TestConsoleSink(EventSinkContract):
    @pytest.fixture
    def subject(self, capsys: pytest.CaptureFixture[str]) -> EventSinkSubject:
        printed: list[str] = []

        def read_back() -> list[dict[str, object]]:
            printed.extend(capsys.readouterr().out.splitlines())
            return [json.loads(line) for line in printed]

        return EventSinkSubject(backend=REGISTRY.event_sink("console"), read_back=read_back)
