"""`open_task_source`: factories, iterables, parameter grids, and the choice of a source."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memory_commands import MemoryCommands

from cloud_tasks import builtin
from cloud_tasks.builtin import open_task_source
from cloud_tasks.builtin.sources import resolve
from cloud_tasks.errors import InputError
from cloud_tasks.model import Task
from cloud_tasks.plugin import NoSettings, TaskSource, TaskSourceBackend, TaskSourceContext, hookimpl
from cloud_tasks.registry import Registry
from cloud_tasks.worker.consumers.local_source import open_local_source

FACTORY = """
from neighbour import COUNT

class Maker:
    @staticmethod
    def tasks():
        for number in range(COUNT):
            yield {"id": f"task-{number}", "data": {"number": number}}

def tasks():
    return Maker.tasks()

def broken():
    yield {"id": "a", "data": {}}
    raise RuntimeError("no more")

def wrong():
    yield {"id": "a", "dta": {}}

def nothing():
    return None

def nul():
    yield {"id": "a\\0", "data": {}}

def one():
    return {"id": "a", "data": {}}

async def later():
    yield {"id": "a", "data": {}}

def refuses():
    raise ValueError("not today")

number = 3
"""
EXPECTED = [Task(task_id=f"task-{number}", data={"number": number}) for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "some_factory.py").write_text(FACTORY)
    (tmp_path / "neighbour.py").write_text("COUNT = 3\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("some_factory", "neighbour"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "spec",
    [
        "some_factory:tasks",
        "some_factory.py:tasks",
        "./some_factory.py:tasks",
        "some_factory:Maker.tasks",
        "factory:some_factory:tasks",
        "factory:some_factory.py:tasks",
    ],
)
def test_factory_is_named_by_module_or_file(folder: Path, spec: str) -> None:
    with open_task_source(None, spec, base_dir=folder) as source:
        assert list(source) == list(source) == EXPECTED


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("some_factory:nobody", 'some_factory: function "nobody" not found'),
        ("some_factory:number", 'some_factory: function "number" not found'),
        ("nowhere_at_all:tasks", "nowhere_at_all: import failed: ModuleNotFoundError"),
        ("nowhere.py:tasks", "nowhere.py: file not found"),
        ("some_factory:broken", "some_factory:broken: after task 1, the task factory raised RuntimeError: no more"),
        ("some_factory:wrong", 'some_factory:wrong: task 1: unknown key "dta"'),
        ("some_factory:nothing", "some_factory:nothing: after task 0, the task factory raised TypeError"),
        ("some_factory:one", "some_factory:one: after task 0, the task factory raised TypeError: expected a list"),
        ("some_factory:later", "some_factory:later: the task factory is asynchronous"),
        ("some_factory:refuses", "some_factory:refuses: the task factory raised ValueError: not today"),
        ("factory:nonsense", '"nonsense" is not a function'),
        ("some_factory:nul", 'some_factory:nul: task 1: "id" contains the character U+0000'),
        ("", "no task source given"),
        ("json:", "json:: no file given; write json:FILE"),
        ("yaml: ", "yaml: : no file given; write yaml:FILE"),
        ("jsonl", "jsonl: no file given; write jsonl:FILE"),
    ],
)
def test_factory_error_has_place_and_reason(folder: Path, spec: str, message: str) -> None:
    with pytest.raises(InputError) as caught, open_task_source(None, spec, base_dir=folder) as source:
        list(source)
    assert str(caught.value).startswith(message)


def test_source_may_be_a_function_a_list_or_a_generator() -> None:
    entries = [{"id": "a", "data": {}}, Task(task_id="b")]
    expected = [Task(task_id="a"), Task(task_id="b")]
    for spec in (lambda: iter(entries), entries, iter(entries), tuple(entries)):
        with open_task_source(None, spec) as source:
            assert list(source) == expected


def test_generator_refuses_a_second_iteration() -> None:
    with open_task_source(None, iter([{"id": "a", "data": {}}])) as source:
        assert len(list(source)) == 1
        with pytest.raises(InputError, match="tasks of an iterator can be read only once"):
            list(source)


@pytest.mark.parametrize("spec", [3, None, {"id": "a"}, b"tasks.json"])
def test_open_task_source_refuses_other_values(spec: Any) -> None:
    with pytest.raises(InputError, match="is not a task source"), open_task_source(None, spec):
        pass


def test_path_object_of_another_library_is_read_as_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"id": "a", "data": {}}]')

    class CloudPath:
        suffix = ".json"

        def open(self) -> None: ...

        def __str__(self) -> str:
            return str(path)

    with open_task_source(None, CloudPath()) as source:
        assert list(source) == [Task(task_id="a")]


# -- parameter grids ----------------------------------------------------------------------------------------------


def test_grid_yields_every_combination() -> None:
    with open_task_source(None, "grid:seed=1..2;mode=fast,slow") as source:
        assert source.expected_length() == 4
        assert list(source) == [
            Task(task_id="seed=1,mode=fast", data={"seed": 1, "mode": "fast"}),
            Task(task_id="seed=1,mode=slow", data={"seed": 1, "mode": "slow"}),
            Task(task_id="seed=2,mode=fast", data={"seed": 2, "mode": "fast"}),
            Task(task_id="seed=2,mode=slow", data={"seed": 2, "mode": "slow"}),
        ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("n=3..1", [3, 2, 1]),
        ("n=0..10..5", [0, 5, 10]),
        ("n=-1..1", [-1, 0, 1]),
        ("n=0.5,1000,true,null,word", [0.5, 1000, True, None, "word"]),
        ("n=4", [4]),
    ],
)
def test_grid_reads_lists_and_ranges(text: str, values: list[Any]) -> None:
    with open_task_source(None, f"grid:{text}") as source:
        assert [task.data["n"] for task in source] == values
        assert source.expected_length() == len(values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n",
        "n=",
        "=1",
        "n=1;n=2",
        "n=1..5..0",
        "n=1..",
        "n=..5",
        "n=1,3..",
        "n=1..5..-1",
        "n=1,1",
        "2x=1",
        "n=1..99999999999999999999",
        "a=1..1000000000;b=1..1000000000",
    ],
)
def test_grid_refuses_malformed_text(text: str) -> None:
    with pytest.raises(InputError), open_task_source(None, f"grid:{text}"):
        pass


def test_grid_needs_no_memory_for_its_ranges() -> None:
    with open_task_source(None, "grid:n=1..1000000000;m=1..3") as source:
        assert source.expected_length() == 3_000_000_000
        tracemalloc.start()
        tasks = [task.task_id for task in itertools.islice(iter(source), 4)]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert tasks == ["n=1,m=1", "n=1,m=2", "n=1,m=3", "n=2,m=1"]
    assert peak < 1 << 20


@pytest.mark.parametrize("has_registry", [False, True])
def test_sweep_is_the_former_name_of_grid_and_warns_once(
    capsys: pytest.CaptureFixture[str], has_registry: bool
) -> None:
    resolve._warn_once.cache_clear()
    registry = Registry(builtins=[("builtin", builtin)], only=()) if has_registry else None
    for _ in range(2):
        with open_task_source(registry, "sweep:n=1..2") as source:
            assert [task.task_id for task in source] == ["n=1", "n=2"]
    printed = capsys.readouterr()
    warning = 'task source "sweep:" was renamed to "grid:"; the former name will be an error in the next release'
    assert (printed.out, printed.err) == ("", f"Warning: {warning}\n")


def test_sweep_is_the_source_of_the_plugin_that_registers_it(capsys: pytest.CaptureFixture[str]) -> None:
    resolve._warn_once.cache_clear()
    with open_task_source(registry_with(numbers("sweep")), "sweep:here") as source:
        assert [task.task_id for task in source] == [f"{NoSettings()!r} here"]
    assert capsys.readouterr().err == ""


# -- choice of a source --------------------------------------------------------------------------------------------


class _Numbers:
    def __init__(self, location: str) -> None:
        self._location = location

    def __iter__(self) -> Iterator[Task]:
        return iter([Task(task_id=self._location)])

    def expected_length(self) -> int:
        return 1


@contextmanager
def _open_numbers(settings: Any, context: TaskSourceContext) -> Iterator[TaskSource]:
    yield _Numbers(f"{settings!r} {context.location}")


def registry_with(*backends: TaskSourceBackend, registry: Registry | None = None) -> Registry:
    @hookimpl
    def cloud_tasks_register_task_source() -> Sequence[TaskSourceBackend]:
        return backends

    registry = registry or Registry(builtins=[("builtin", builtin)], only=())
    registry.register("extra", SimpleNamespace(cloud_tasks_register_task_source=cloud_tasks_register_task_source))
    return registry


def numbers(name: str, *suffixes: str) -> TaskSourceBackend:
    return TaskSourceBackend(name=name, summary="numbers", open=_open_numbers, suffixes=suffixes)


@pytest.mark.parametrize(
    ("spec", "location"),
    [("numbers:here", "here"), ("numbers", ""), ("numbers:a:b", "a:b"), ("x.num", "x.num"), ("x.num.gz", "x.num.gz")],
)
def test_source_of_a_plugin_is_chosen_by_name_or_suffix(tmp_path: Path, spec: str, location: str) -> None:
    with open_task_source(registry_with(numbers("numbers", ".num")), spec, base_dir=tmp_path) as source:
        assert [task.task_id for task in source] == [f"{NoSettings()!r} {location}"]


def test_source_receives_its_settings(tmp_path: Path) -> None:
    registry = registry_with(numbers("numbers"))
    with open_task_source(
        registry, "numbers:x", base_dir=tmp_path, settings_for=lambda kind, name: f"{kind} {name}"
    ) as source:
        assert [task.task_id for task in source] == ["'task_source numbers' x"]


class _Odd:
    """A source that does what its location says."""

    where = ""

    def __init__(self, settings: Any, context: TaskSourceContext) -> None:
        self._kind = context.location
        if self._kind == "opening":
            raise SystemExit(3)

    def __iter__(self) -> Iterator[Any]:
        yield Task(task_id="a")
        if self._kind == "raises":
            raise KeyError("id")
        if self._kind == "exits":
            sys.exit()
        if self._kind == "unprintable":
            raise _UnprintableError
        yield {
            "empty": Task(task_id=""),
            "number": Task(task_id=3),  # type: ignore[arg-type]
            "dict": {"task_id": "b", "data": {}},
            "none": None,
            "text": Task(task_id="b", data="x"),  # type: ignore[arg-type]
            "list": Task(task_id="b", data=[("x", 1)]),  # type: ignore[arg-type]
            "set": Task(task_id="b", data={"x": {1}}),
        }[self._kind]

    def expected_length(self) -> Any:
        return {"length": "3", "negative": -1}.get(self._kind)

    def close(self) -> None:
        if self._kind != "set":
            raise KeyError("closing")


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


_ODD = 'the task source "odd" of plugin "extra"'
ODD_SOURCES = [
    ("raises", f"after task 1, {_ODD} raised KeyError: 'id'"),
    ("exits", f"after task 1, {_ODD} raised SystemExit"),
    ("unprintable", f"after task 1, {_ODD} raised _UnprintableError: its message cannot be shown"),
    ("opening", f"{_ODD} cannot be opened: SystemExit: 3"),
    ("empty", 'task 2: "task_id" is empty'),
    ("number", 'task 2: "task_id" must be text, not a number (3); put it in quotes'),
    ("dict", f"task 2: {_ODD} gave a dict, not a Task"),
    ("none", f"task 2: {_ODD} gave a NoneType, not a Task"),
    ("text", 'task 2: "data" of task "b" must be an object, not text'),
    ("list", 'task 2: "data" of task "b" must be an object, not a list'),
    (
        "set",
        'task 2 ("b"): data.x: a value of the type set, which JSON does not have; '
        "convert it to text, a number, a list or an object",
    ),
    ("length", f"expected_length of {_ODD} raised TypeError: expected a number of tasks or None, got '3'"),
    ("negative", f"expected_length of {_ODD} raised TypeError: expected a number of tasks or None, got -1"),
]


def odd_registry(registry: Registry | None = None) -> Registry:
    return registry_with(TaskSourceBackend(name="odd", summary="odd", open=f"{__name__}:_Odd"), registry=registry)


@pytest.mark.parametrize(("kind", "message"), ODD_SOURCES)
def test_source_of_a_plugin_is_checked_as_a_factory_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yml").write_text("run:\n  job_id: job\n  startup_script: 'true'\n")
    with (
        pytest.raises(InputError) as by_hand,
        open_local_source(f"odd:{kind}", plugins=odd_registry, settings_of=lambda backend: backend.settings()) as read,
    ):
        list(read.tasks)
    assert str(by_hand.value) == f"odd:{kind}: {message}"
    commands = MemoryCommands()
    odd_registry(commands.registry)
    # The same gate, so not every kind of each.
    for command in (("load-queue",), ("run", "--dry-run")) if kind in ("raises", "exits", "number", "length") else ():
        answer = commands.call(*command, "--config", "config.yml", "--task-file", f"odd:{kind}")
        assert (type(answer.error), str(answer.error)) == (InputError, str(by_hand.value)), command
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yml"]


def test_source_of_a_plugin_that_cannot_be_closed_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^odd:: .* cannot be closed: KeyError: 'closing'$"),
        open_task_source(odd_registry(), "odd:", base_dir=tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    "code", ["raise SystemExit(2)", "def f():\n  raise SystemExit(2)", "def f():\n  exit()\n  yield"]
)
def test_factory_that_exits_is_an_error_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    (folder / "exits.py").write_text(code)
    monkeypatch.delitem(sys.modules, "exits", raising=False)
    with (
        pytest.raises(InputError, match=r"^exits\.py.*SystemExit"),
        open_task_source(None, "exits.py:f", base_dir=folder) as source,
    ):
        list(source)


def test_source_of_a_program_is_checked_as_a_factory_is(tmp_path: Path) -> None:
    source = _Odd(None, TaskSourceContext(location="raises", base_dir=tmp_path))
    with (
        pytest.raises(InputError, match=r"^the given tasks: after task 1, the task source raised KeyError: 'id'$"),
        open_task_source(None, source) as opened,
    ):
        list(opened)


def test_suffix_of_two_sources_is_an_error_naming_both(tmp_path: Path) -> None:
    registry = registry_with(numbers("first", ".num"), numbers("second", ".num"))
    with pytest.raises(InputError, match=r"first and second; write first:x\.num"):
        open_task_source(registry, "x.num", base_dir=tmp_path)


def test_format_can_be_named_before_the_path(tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_text('[{"id": "a", "data": {}}]')
    with open_task_source(None, "json:tasks.txt", base_dir=tmp_path) as source:
        assert list(source) == [Task(task_id="a")]


def test_local_json_file_needs_no_heavy_imports(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"id": "a", "data": {}}]')
    program = (
        "import sys; from cloud_tasks.builtin import open_task_source\n"
        "with open_task_source(None, 'a.json') as source: assert len(list(source)) == 1\n"
        "heavy = {'fsspec', 'ijson', 'yaml', 'sqlite3', 'click', 'structlog', 'gzip'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert output.stdout.split() == []
