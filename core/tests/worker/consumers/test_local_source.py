"""Local sources of workers: built-in ones without plugins, others as `load-queue` opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from cloud_tasks import builtin
from cloud_tasks.cli.options.estimates import count_tasks
from cloud_tasks.config import load_config
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.plugin import TaskSource, TaskSourceBackend, TaskSourceContext, hookimpl, open_text, setting
from cloud_tasks.registry import Registry
from cloud_tasks.worker.consumers.local_source import open_local_source
from cloud_tasks.worker.supervisor.environment import settings_from_environment


@attrs.frozen(kw_only=True)
class CsvSettings:
    delimiter: str = setting(help="Delimiter", default=",")


class CsvSource:
    def __init__(self, settings: CsvSettings, context: TaskSourceContext) -> None:
        self._settings, self._context = settings, context

    def __iter__(self) -> Iterator[Task]:
        with open_text(self._context) as lines:
            for line in lines:
                name, _, value = line.strip().partition(self._settings.delimiter)
                yield Task(task_id=name, data={"value": value})

    def expected_length(self) -> int | None:
        return None


@contextmanager
def _open(settings: CsvSettings, context: TaskSourceContext) -> Iterator[TaskSource]:
    yield CsvSource(settings, context)


def _plugins() -> Registry:
    source = TaskSourceBackend(name="csv", summary="CSV", settings=CsvSettings, open=_open, suffixes=(".csv",))
    registry = Registry(builtins=[("builtin", builtin)], only=())
    registry.register("csv", SimpleNamespace(cloud_tasks_register_task_source=hookimpl(lambda: (source,))))
    return registry


def _read(spec: object, environ: dict[str, str] | None = None) -> list[tuple[str, object]]:
    def settings_of(backend: TaskSourceBackend) -> object:
        return settings_from_environment(backend.settings, backend.name, environ or {})

    with open_local_source(spec, plugins=_plugins, settings_of=settings_of) as source:  # type: ignore[arg-type]
        return list(source.tasks)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("few.csv", "few.txt"):
        (tmp_path / name).write_text("a,1\nb,2\n")
    (tmp_path / "few.yaml").write_text("- {id: y, data: {}}\n")
    (tmp_path / "made.py").write_text("def tasks():\n    yield {'id': 'm', 'data': {}}\n")
    return tmp_path


@pytest.mark.parametrize("spec", ["few.csv", "csv:few.csv", "csv:few.txt", Path("few.csv")])
def test_local_source_is_that_of_an_installed_plugin(spec: object) -> None:
    assert _read(spec) == [("a", {"value": "1"}), ("b", {"value": "2"})]


def test_local_source_of_a_plugin_has_the_settings_of_its_section() -> None:
    (Path("few.csv")).write_text("a;1\n")
    assert _read("few.csv", {"CLOUD_TASKS_CSV_DELIMITER": ";"}) == [("a", {"value": "1"})]


@pytest.mark.parametrize(
    "spec",
    ["few.yaml", "yaml:few.yaml", "grid:n=1", "made.py:tasks", "factory:made:tasks", lambda: [{"id": "x", "data": {}}]],
)
def test_local_source_that_is_built_in_needs_no_plugin(spec: object) -> None:
    def unexpected(*_: object) -> Registry:
        raise AssertionError("plugins were loaded")

    with open_local_source(spec, plugins=unexpected, settings_of=unexpected) as source:
        assert len(list(source.tasks)) == 1


def test_local_source_that_is_a_function_of_a_module_needs_no_prefix() -> None:
    assert _read("made:tasks") == [("m", {})]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("few.txt", "few.txt: cannot determine the format from the name; known suffixes: .csv, .json, "),
        (
            "parquet:x/few.txt",
            'parquet:x/few.txt: no task source "parquet" is installed; installed: csv, factory, grid, ',
        ),
    ],
)
def test_local_source_that_is_unknown_names_what_is_installed(spec: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        _read(spec)
    assert str(refused.value).startswith(message)


def test_duplicate_id_in_a_source_that_has_no_place_names_what_was_given() -> None:
    Path("few.csv").write_text("a,1\na,2\n")
    config = load_config(_plugins(), file=None, options={}, environ={})
    with pytest.raises(InputError, match=r'^few\.csv: task 2: duplicate id "a", already used by task 1'):
        count_tasks(config, number=None, spec="few.csv")
    with open_local_source("few.csv", plugins=_plugins, settings_of=lambda backend: backend.settings()) as source:
        assert source.where == source.place() == "few.csv"
