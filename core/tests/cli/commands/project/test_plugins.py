"""`cloud-tasks plugins`: list, show, and new skeletons."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest
from click.testing import CliRunner, Result

import cloud_tasks.builtin
from cloud_tasks.cli.commands.project.plugins import KINDS
from cloud_tasks.cli.context import AppContext
from cloud_tasks.cli.main import cli
from cloud_tasks.config.sections import TOP_LEVEL
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import (
    CommandDescriptor,
    QueueBackend,
    QueueTraits,
    TaskSourceBackend,
    hookimpl,
    setting,
)
from cloud_tasks.registry import BACKEND_KINDS, Plugin, Registry


@attrs.frozen(kw_only=True)
class DepotSettings:
    project: str = setting(help="Whose depot it is", env="DEPOT_PROJECT", flag="--depot-project", worker=True)
    token: str | None = setting(help="The key to it", default="open sesame", secret=True)
    patience: timedelta = setting(help="Seconds to wait", default=timedelta(seconds=90))


@contextmanager
def open_nothing(settings: Any, context: Any) -> Iterator[Any]:
    yield None


QUEUE = QueueBackend(
    name="depot",
    summary="A depot of messages",
    settings=DepotSettings,
    traits=QueueTraits(max_lease=timedelta(hours=1), max_message_bytes=1000, receive_batch=7, send_batch=8),
    open=open_nothing,
)
SOURCE = TaskSourceBackend(name="shelf", summary="Tasks off the shelf", suffixes=(".shelf",), open=open_nothing)
COMMAND = CommandDescriptor(name="sweep-up", summary="Tidy the depot", target="depot:sweep_up")


def raise_error() -> Sequence[QueueBackend]:
    raise RuntimeError("the depot is shut")


@pytest.fixture
def registry() -> Registry:
    registry = Registry(builtins=[("builtin", cloud_tasks.builtin)], only=())
    depot = SimpleNamespace(
        cloud_tasks_register_queue=hookimpl(lambda: (QUEUE,)),
        cloud_tasks_register_task_source=hookimpl(lambda: (SOURCE,)),
        cloud_tasks_register_command=hookimpl(lambda: (COMMAND,)),
    )
    registry.register("warehouse", depot)
    registry.register("ruin", SimpleNamespace(cloud_tasks_register_queue=hookimpl(raise_error)))
    return registry


Call = Callable[..., Result]


@pytest.fixture
def call(registry: Registry) -> Call:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["plugins", *arguments], obj=AppContext(registry=registry))

    return run


def setting_of(facts: dict[str, Any], key: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in facts["backends"][0]["settings"] if each["key"] == key)
    return found


# list


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_plugins_lists_installed_plugins_with_their_features(call: Call, arguments: tuple[str, ...]) -> None:
    answer = call(*arguments)
    assert answer.exit_code == 0
    assert re.search(
        r"^warehouse +in memory +- +queue: depot; task source: shelf; command: sweep-up$", answer.stdout, re.M
    )
    assert re.search(r"^ruin .*BROKEN: registration failed: RuntimeError: the depot is shut$", answer.stdout, re.M)


@pytest.mark.parametrize("arguments", [("--json",), ("list", "--json")])
def test_plugins_list_as_json(call: Call, arguments: tuple[str, ...]) -> None:
    rows = {row["name"]: row for row in json.loads(call(*arguments).stdout)}
    assert list(rows) == ["builtin", "warehouse", "ruin"]
    assert rows["builtin"]["version"] == importlib.metadata.version("cloud-tasks")
    assert rows["warehouse"]["provides"] == {"queue": ["depot"], "task_source": ["shelf"], "command": ["sweep-up"]}
    assert rows["warehouse"]["problem"] is None
    assert "the depot is shut" in rows["ruin"]["problem"]


def test_plugins_list_warns_once_about_a_broken_plugin_on_stderr(call: Call) -> None:
    answer = call("list", "--json")
    assert answer.stderr.count("Warning:") == 1
    assert 'plugin "ruin" (in memory) is broken' in answer.stderr
    json.loads(answer.stdout)


# show


def test_plugins_show_has_all_data_of_a_setting(call: Call) -> None:
    facts = json.loads(call("show", "warehouse", "--json").stdout)
    assert setting_of(facts, "depot.project") == {
        "key": "depot.project",
        "help": "Whose depot it is",
        "type": "text",
        "required": True,
        "default": None,
        "environment": ["CLOUD_TASKS_DEPOT_PROJECT", "DEPOT_PROJECT"],
        "flag": "--depot-project",
        "secret": False,
        "worker": True,
    }
    assert setting_of(facts, "depot.patience")["default"] == 90.0


def test_plugins_show_has_traits_and_file_extensions(call: Call) -> None:
    queue, source, command = json.loads(call("show", "warehouse", "--json").stdout)["backends"]
    assert (queue["traits"]["max_lease"], queue["traits"]["receive_batch"]) == (3600.0, 7)
    assert (source["axis"], source["suffixes"], source["settings"]) == ("task_source", [".shelf"], [])
    assert command == {"axis": "command", "name": "sweep-up", "summary": "Tidy the depot"}


def test_plugins_show_as_text_has_the_same_data(call: Call) -> None:
    text = call("show", "warehouse").stdout
    for fact in (
        "queue depot: A depot of messages",
        "    max_lease: 1h 0m 0s\n",
        "    reports_delivery_count: no\n",
        "    depot.project  (text; required)\n      Whose depot it is\n"
        "      also: --depot-project, CLOUD_TASKS_DEPOT_PROJECT, DEPOT_PROJECT\n      passed to the workers\n",
        "    depot.patience  (a duration; default 90.0)",
        "  file extensions: .shelf",
        "command sweep-up: Tidy the depot",
    ):
        assert fact in text


@pytest.mark.parametrize("arguments", [("show", "warehouse"), ("show", "warehouse", "--json")])
def test_plugins_show_hides_the_default_of_a_secret(call: Call, arguments: tuple[str, ...]) -> None:
    answer = call(*arguments)
    assert "depot.token" in answer.stdout
    assert "open sesame" not in answer.output


def test_plugins_show_finds_a_plugin_by_backend(call: Call) -> None:
    assert call("show", "depot").stdout == call("show", "warehouse").stdout


def test_plugins_show_has_the_cause_of_a_broken_plugin(call: Call) -> None:
    answer = call("show", "ruin")
    assert answer.exit_code == 0
    assert "BROKEN: registration failed: RuntimeError: the depot is shut" in answer.stdout


def test_plugins_show_suggests_a_similar_name(call: Call) -> None:
    error = call("show", "wearhouse").exception
    assert isinstance(error, InputError)
    assert str(error) == 'unknown plugin "wearhouse"; did you mean "warehouse"?'


def test_plugins_show_rejects_an_ambiguous_name(call: Call, registry: Registry) -> None:
    registry.register("second", SimpleNamespace(cloud_tasks_register_queue=hookimpl(lambda: (QUEUE,))))
    assert str(call("show", "depot").exception) == (
        '"depot" is registered by several plugins: warehouse and second; show one of them'
    )


def test_plugins_show_includes_builtins(call: Call) -> None:
    names = {(each["axis"], each["name"]) for each in json.loads(call("show", "builtin", "--json").stdout)["backends"]}
    assert {("task_source", "json"), ("event_sink", "jsonl")} <= names


# new


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[Path, str], dict[str, str]]:
    """Return a function that creates installation metadata and the environment in which a skeleton is found."""

    def install(folder: Path, name: str) -> dict[str, str]:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        metadata = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        (target,) = project["entry-points"]["cloud_tasks"].items()
        (metadata / "entry_points.txt").write_text(f"[cloud_tasks]\n{target[0]} = {target[1]}\n")
        paths = [str(folder / "src"), str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    return install


COMBINATIONS = [*((kind,) for kind in KINDS), ("provider",), ("provider", "queue"), ("task-source", "event-sink")]


def kinds_of(combination: Sequence[str]) -> list[str]:
    """Return the kinds of backends of a combination, as in the code."""
    chosen = [kind for each in combination for kind in (("compute", "pricing") if each == "provider" else (each,))]
    return [kind.replace("-", "_") for kind in chosen]


def arguments_for(combination: Sequence[str], folder: Path, name: str = "my-depot") -> list[str]:
    return ["new", name, *(part for kind in combination for part in ("--kind", kind)), "--directory", str(folder)]


def causes_of(folder: Path, environment: dict[str, str], report: Path) -> dict[str, list[str]]:
    """Return the messages of the failures of each test of a skeleton."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    answer = subprocess.run(
        [*command, f"--junitxml={report}", "tests"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 1, answer.stdout
    tests = ElementTree.parse(report).getroot().iter("testcase")
    return {
        f"{test.get('classname')}::{test.get('name')}": [
            each.get("message", "") for each in test if "message" in each.attrib
        ]
        for test in tests
    }


@pytest.mark.parametrize("combination", COMBINATIONS, ids=" ".join)
def test_skeleton_tests_fail_only_for_methods_to_implement(
    call: Call, installed: Callable[[Path, str], dict[str, str]], tmp_path: Path, combination: tuple[str, ...]
) -> None:
    folder = tmp_path / "made"
    assert call(*arguments_for(combination, folder)).exit_code == 0
    causes = causes_of(folder, installed(folder, "my-depot"), tmp_path / "report.xml")
    failed = [cause for found in causes.values() for cause in found]
    assert len(failed) >= len(causes) / 2
    assert [cause for cause in failed if " is not implemented" not in cause] == []
    # No test of the skeleton's own module has to be deleted.
    assert [name for name, found in causes.items() if "test_plugin" in name and found] == []


@pytest.mark.parametrize("combination", COMBINATIONS, ids=" ".join)
def test_skeleton_satisfies_type_checker_and_linter(
    call: Call, installed: Callable[[Path, str], dict[str, str]], tmp_path: Path, combination: tuple[str, ...]
) -> None:
    folder = tmp_path / "made"
    call(*arguments_for(combination, folder))
    environment = installed(folder, "my-depot")
    cache = ["--cache-dir", str(Path(__file__).parents[5] / ".mypy_cache" / "skeletons")]
    for command in (
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--no-cache", "--check", "."],
        ["mypy", *cache],
    ):
        answer = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment | {"MYPYPATH": str(folder / "src")},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_skeleton_of_a_plugin_with_a_required_setting_keeps_its_tests(
    call: Call, installed: Callable[[Path, str], dict[str, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    call(*arguments_for(["pricing"], folder))
    settings = folder / "src" / "cloud_tasks_my_depot" / "settings.py"
    (label,) = re.findall(r"    label: .*\n", settings.read_text())
    settings.write_text(settings.read_text().replace(label, '    url: str = setting(help="Address of the depot")\n'))
    fixture = folder / "tests" / "conftest.py"
    fixture.write_text(fixture.read_text().replace("MyDepotSettings()", 'MyDepotSettings(url="depot.example")'))
    causes = causes_of(folder, installed(folder, "my-depot"), tmp_path / "report.xml")
    assert [cause for found in causes.values() for cause in found if " is not implemented" not in cause] == []


@pytest.mark.parametrize("kind", KINDS)
def test_skeleton_has_every_method_of_the_contract(
    call: Call, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloud_tasks.plugin

    name = f"depot-{kind}"
    call(*arguments_for([kind], tmp_path / "made", name))
    monkeypatch.syspath_prepend(tmp_path / "made" / "src")
    backend_kind = kind.replace("-", "_")
    plugin = importlib.import_module(f"cloud_tasks_{name.replace('-', '_')}.plugin")
    (backend,) = getattr(plugin, f"cloud_tasks_register_{backend_kind}")()
    stem = BACKEND_KINDS[backend_kind].__name__.removesuffix("Backend")
    for target, protocol in (
        (backend.open.target, stem),
        *([(backend.open_instance.target, "InstanceSide")] if kind == "compute" else []),
    ):
        module, _, attribute = target.partition(":")
        written = getattr(importlib.import_module(module), attribute)
        # Named by the class itself: what every Protocol has starts with an underscore, but for the iteration.
        declared = vars(getattr(cloud_tasks.plugin, protocol))
        methods = {name for name in declared if name == "__iter__" or not name.startswith("_")}
        assert methods
        assert {name for name in methods if not callable(getattr(written, name, None))} == set()
        assert not getattr(written, "__abstractmethods__", None)


def test_skeleton_is_a_complete_distribution(call: Call, tmp_path: Path) -> None:
    answer = call(*arguments_for(["queue"], tmp_path / "made"))
    files = sorted(
        str(file.relative_to(tmp_path / "made")) for file in (tmp_path / "made").rglob("*") if file.is_file()
    )
    assert files == [
        "README.md",
        "pyproject.toml",
        "src/cloud_tasks_my_depot/__init__.py",
        "src/cloud_tasks_my_depot/plugin.py",
        "src/cloud_tasks_my_depot/py.typed",
        "src/cloud_tasks_my_depot/queue.py",
        "src/cloud_tasks_my_depot/service.py",
        "src/cloud_tasks_my_depot/settings.py",
        "src/cloud_tasks_my_depot/todo.py",
        "src/cloud_tasks_my_depot/traits.py",
        "tests/conftest.py",
        "tests/test_plugin.py",
        "tests/test_queue_conformance.py",
    ]
    assert all(f"Wrote {tmp_path / 'made' / file}" in answer.stdout for file in files)


@pytest.mark.parametrize(
    ("version", "bound"), [("0.1.0", "<0.2"), ("0.9.3", "<0.10"), ("1.4.2", "<2"), ("12.0.0", "<13")]
)
def test_skeleton_depends_on_compatible_releases(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, bound: str
) -> None:
    monkeypatch.setattr("cloud_tasks.__version__", version)
    call(*arguments_for(["pricing"], tmp_path / "made"))
    project = tomllib.loads((tmp_path / "made" / "pyproject.toml").read_text())["project"]
    assert f"cloud-tasks>={version},{bound}" in project["dependencies"]


@pytest.mark.parametrize(("kind", "passed_on"), [("queue", True), ("provider", True), ("task-source", False)])
def test_skeleton_passes_a_setting_to_workers_that_need_it(
    call: Call, tmp_path: Path, kind: str, passed_on: bool
) -> None:
    call(*arguments_for([kind], tmp_path / "made"))
    settings = (tmp_path / "made" / "src" / "cloud_tasks_my_depot" / "settings.py").read_text()
    assert ("worker=True" in settings) == passed_on


def test_skeleton_doctor_shows_the_check_to_implement(
    call: Call, installed: Callable[[Path, str], dict[str, str]], tmp_path: Path
) -> None:
    call(*arguments_for(["provider", "queue"], tmp_path / "made"))
    environment = installed(tmp_path / "made", "my-depot")
    program = "from cloud_tasks.cli.main import main; main()"
    command = [sys.executable, "-c", program, "doctor", "--provider", "my-depot"]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert answer.returncode == 1
    text = " ".join(answer.stdout.split())
    assert "checks._account is not implemented" in text
    assert "make a call that needs credentials" in text
    assert "Traceback" not in answer.stdout + answer.stderr


# Adding kinds


def test_skeleton_gets_a_further_kind(
    call: Call, installed: Callable[[Path, str], dict[str, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    call(*arguments_for(["pricing"], folder))
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    answer = call(*arguments_for(["queue", "event-sink"], folder))
    assert answer.exit_code == 0
    changed = {str(file.relative_to(folder)) for file in before if file.read_bytes() != before[file]}
    assert changed == {"README.md", "pyproject.toml"}
    assert 'description = "Pricing, queue and event sink for cloud-tasks."' in (folder / "pyproject.toml").read_text()
    added = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file not in before}
    package = "src/cloud_tasks_my_depot"
    assert added == {
        *(f"{package}/{name}.py" for name in ("queue", "traits", "service", "event_sink")),
        "tests/test_queue_conformance.py",
        "tests/test_event_sink_conformance.py",
    }
    message, _, code = answer.stderr.partition("plugin.py:\n")
    assert f"Next: add this to {folder / package}" in message
    # The existing module with the code from the message.
    module = folder / package / "plugin.py"
    head, mark, rest = module.read_text().partition("from collections.abc import Sequence\n")
    module.write_text(f"{head}{mark}{code}\n{rest}")
    causes = causes_of(folder, installed(folder, "my-depot"), tmp_path / "report.xml")
    assert len(causes) > 20
    assert [cause for found in causes.values() for cause in found if " is not implemented" not in cause] == []


def test_skeleton_keeps_a_description_that_was_edited(call: Call, tmp_path: Path) -> None:
    call(*arguments_for(["pricing"], tmp_path))
    (tmp_path / "README.md").write_text("mine")
    call(*arguments_for(["queue"], tmp_path))
    assert (tmp_path / "README.md").read_text() == "mine"
    assert 'description = "Pricing and queue for' in (tmp_path / "pyproject.toml").read_text()


def test_skeleton_keeps_a_kind_that_exists(call: Call, tmp_path: Path) -> None:
    call(*arguments_for(["provider"], tmp_path))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    error = call(*arguments_for(["queue", "pricing"], tmp_path)).exception
    assert isinstance(error, InputError)
    assert str(error) == f"{tmp_path}/src/cloud_tasks_my_depot/pricing.py: exists; each kind can be added once"
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_skeleton_is_not_added_to_another_plugin(call: Call, tmp_path: Path) -> None:
    call(*arguments_for(["queue"], tmp_path, "other"))
    error = call(*arguments_for(["pricing"], tmp_path)).exception
    assert isinstance(error, InputError)
    assert "exists and is not empty" in str(error)


def test_skeleton_can_be_extended_while_it_is_installed(call: Call, registry: Registry, tmp_path: Path) -> None:
    call(*arguments_for(["pricing"], tmp_path / "made"))
    installed = Plugin(name="my-depot", distribution="cloud-tasks-my-depot", version="0.1.0")
    registry._plugins = (*registry.plugins(), installed)
    assert call(*arguments_for(["queue"], tmp_path / "made")).exit_code == 0
    error = call(*arguments_for(["queue"], tmp_path / "elsewhere")).exception
    assert str(error) == 'plugin name "my-depot" is taken by cloud-tasks-my-depot; choose another'


@pytest.mark.parametrize("name", ["json", "jsonl", "warehouse", "depot", "shelf", "sweep-up", "gcp"])
def test_skeleton_rejects_a_name_that_is_taken(call: Call, tmp_path: Path, name: str) -> None:
    error = call(*arguments_for(["task-source"], tmp_path / "made", name)).exception
    assert isinstance(error, InputError)
    assert f'plugin name "{name}" is taken' in str(error)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", [*(key for key in (*TOP_LEVEL, "run") if "_" not in key), "on", "null", "no", "y"])
def test_skeleton_rejects_a_name_with_another_meaning_in_configurations(call: Call, tmp_path: Path, name: str) -> None:
    error = call(*arguments_for(["queue"], tmp_path / "made", name)).exception
    assert str(error) == f'plugin name "{name}" has another meaning in configurations; choose another'
    assert not (tmp_path / "made").exists()


def test_skeleton_needs_a_kind(call: Call, tmp_path: Path) -> None:
    answer = call(*arguments_for([], tmp_path / "made"))
    assert answer.exit_code == 2
    assert "--kind" in answer.stderr


def test_skeleton_folder_defaults_to_the_name(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call("new", "my-depot", "--kind", "queue")
    assert (tmp_path / "cloud-tasks-my-depot" / "pyproject.toml").is_file()


def test_skeleton_never_overwrites_files(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    error = call(*arguments_for(["queue"], tmp_path)).exception
    assert isinstance(error, InputError)
    assert "exists and is not empty" in str(error)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["Depot", "my_depot", "2fast", "my--depot", "-x", "depot-", "a/b", "local"])
def test_skeleton_rejects_an_invalid_name(call: Call, tmp_path: Path, name: str) -> None:
    answer = call("new", "--kind", "queue", "--directory", str(tmp_path / "made"), "--", name)
    assert isinstance(answer.exception, InputError)
    assert not (tmp_path / "made").exists()


# The two variables


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from cloud_tasks.cli.main import main; main()"]
    environment = {**os.environ, **variables}
    return subprocess.run([*program, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_plugins_disabled_by_name_are_not_loaded() -> None:
    rows = json.loads(run_command("plugins", "--json", CLOUD_TASKS_DISABLE_PLUGINS="local, gcp").stdout)
    assert not {row["name"] for row in rows} & {"local", "gcp"}
    assert "builtin" in {row["name"] for row in rows}


def test_strict_plugins_fail_every_command_that_loads_them(tmp_path: Path) -> None:
    metadata = tmp_path / "ruin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ruin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[cloud_tasks]\nruin = no_such_module\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    lenient = run_command("plugins", PYTHONPATH=path)
    assert lenient.returncode == 0
    assert 'Warning: plugin "ruin" (ruin 1.0) is broken: import failed' in lenient.stderr
    strict = run_command("plugins", PYTHONPATH=path, CLOUD_TASKS_STRICT_PLUGINS="1")
    assert strict.returncode == 1
    assert strict.stderr.startswith('Error: plugin "ruin" (ruin 1.0) is broken: import failed: ModuleNotFoundError')
    assert "unset CLOUD_TASKS_STRICT_PLUGINS" in strict.stderr
    blocked = run_command(
        "plugins", PYTHONPATH=path, CLOUD_TASKS_STRICT_PLUGINS="1", CLOUD_TASKS_DISABLE_PLUGINS="ruin"
    )
    assert blocked.returncode == 0
