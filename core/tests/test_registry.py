"""The plugin registry: discovery, isolation of broken plugins, resolution by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_tasks.errors import InputError, PluginError
from cloud_tasks.plugin import (
    EventSinkBackend,
    PricingBackend,
    QueueBackend,
    QueueTraits,
    TaskSourceBackend,
    hookimpl,
)
from cloud_tasks.registry import Registry

TRAITS = QueueTraits(max_lease=timedelta(hours=1), max_message_bytes=1000, receive_batch=1, send_batch=1)


@contextmanager
def open_nothing(settings: Any, context: Any) -> Iterator[Any]:
    yield None


def queue_backend(name: str) -> QueueBackend:
    return QueueBackend(name=name, summary="A queue", traits=TRAITS, open=open_nothing)


def plugin(**hooks: Callable[..., Any]) -> SimpleNamespace:
    """Return a plugin in memory that implements these hooks, named without ``cloud_tasks_register_``."""
    return SimpleNamespace(**{f"cloud_tasks_register_{kind}": hookimpl(hook) for kind, hook in hooks.items()})


def offering(name: str) -> SimpleNamespace:
    def register() -> Sequence[QueueBackend]:
        return (queue_backend(name),)

    return plugin(queue=register)


@pytest.fixture
def registry() -> Registry:
    """A registry that ignores installed plugins."""
    return Registry(only=())


def test_registry_finds_an_in_memory_plugin_by_backend_name(registry: Registry) -> None:
    registry.register("mine", offering("mine"))
    assert registry.queue("mine") == queue_backend("mine")
    assert registry.names("queue") == ("mine",)
    assert registry.names("compute") == ()


def test_registry_finds_a_plugin_registered_later(registry: Registry) -> None:
    registry.register("first", offering("first"))
    assert registry.names("queue") == ("first",)
    registry.register("second", offering("second"))
    assert registry.names("queue") == ("first", "second")


def test_registry_names_are_separate_by_backend_kind(registry: Registry) -> None:
    both = plugin(
        queue=lambda: (queue_backend("one"),),
        pricing=lambda: (PricingBackend(name="one", summary="", open=open_nothing),),
        event_sink=lambda: (EventSinkBackend(name="sink", summary="", open=open_nothing),),
        task_source=lambda: (TaskSourceBackend(name="source", summary="", open=open_nothing),),
    )
    registry.register("both", both)
    assert isinstance(registry.pricing("one"), PricingBackend)
    assert registry.event_sink("sink").name == "sink"
    assert registry.task_source("source").name == "source"
    with pytest.raises(InputError, match='unknown compute backend "one"'):
        registry.compute("one")


def test_registry_builtins_use_the_same_hooks() -> None:
    registry = Registry(builtins=[("builtin", offering("inside"))], only=())
    (found,) = registry.plugins()
    assert (found.name, found.distribution) == ("builtin", "cloud-tasks")
    assert registry.queue("inside").name == "inside"


def test_registry_suggests_a_similar_name(registry: Registry) -> None:
    registry.register("mine", offering("pigeon"))
    with pytest.raises(InputError, match='unknown queue backend "pidgeon"; did you mean "pigeon"'):
        registry.queue("pidgeon")


def test_registry_hints_how_to_install_a_missing_provider(registry: Registry) -> None:
    with pytest.raises(InputError, match=r"pip install 'cloud-tasks\[gcp\]'"):
        registry.queue("gcp")


def test_registry_names_the_broken_plugin_of_an_event_sink(registry: Registry) -> None:
    registry.register("notify", plugin(queue=raises))
    with pytest.raises(PluginError, match=r'plugin "notify" .* is broken'):
        registry.event_sink("webhook")


def test_registry_lists_what_a_plugin_registers_instead(registry: Registry) -> None:
    sink = EventSinkBackend(name="webhook", summary="Notifications", open=open_nothing)
    registry.register("notify", plugin(event_sink=lambda: (sink,)))
    with pytest.raises(InputError, match=r'unknown event sink "notify"; the plugin "notify" registers webhook$'):
        registry.event_sink("notify")


def raises() -> Sequence[QueueBackend]:
    raise RuntimeError("the library is too old")


def exits() -> Sequence[QueueBackend]:
    raise SystemExit(3)


def wrong_argument(colour: str) -> Sequence[QueueBackend]:
    return ()


BROKEN = {
    "a hook that raises": (plugin(queue=raises), "RuntimeError: the library is too old"),
    "a hook that exits": (plugin(queue=exits), "SystemExit: 3"),
    "an unknown hook": (plugin(teleporter=lambda: ()), "cloud_tasks_register_teleporter"),
    "a hook with a wrong argument": (plugin(queue=wrong_argument), "colour"),
    "a hook that returns something else": (plugin(queue=lambda: ("local",)), "not a QueueBackend"),
    "a hook that returns another backend kind": (
        plugin(pricing=lambda: (queue_backend("x"),)),
        "not a PricingBackend",
    ),
    "a hook that returns nothing iterable": (plugin(queue=lambda: 7), "not iterable"),
}


@pytest.mark.parametrize(("module", "cause"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_plugin_affects_no_other_and_reports_its_cause(registry: Registry, module: Any, cause: str) -> None:
    registry.register("bad", module)
    registry.register("good", offering("good"))
    assert registry.queue("good").name == "good"
    (problem,) = registry.problems()
    assert problem.startswith('plugin "bad" (in memory) is broken: ')
    assert cause in problem
    with pytest.raises(PluginError, match='plugin "bad"'):
        registry.queue("bad")


def test_broken_plugin_in_strict_mode_raises(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_TASKS_STRICT_PLUGINS", "1")
    registry.register("bad", plugin(queue=raises))
    with pytest.raises(PluginError, match=r"the library is too old.*CLOUD_TASKS_STRICT_PLUGINS"):
        registry.plugins()


def test_duplicate_backend_name_is_an_error_when_used(registry: Registry) -> None:
    registry.register("one", offering("same"))
    registry.register("two", offering("same"))
    registry.register("three", offering("other"))
    assert registry.queue("other").name == "other"
    with pytest.raises(PluginError, match=r'"same": one \(in memory\) and two \(in memory\)'):
        registry.queue("same")


def test_disabled_plugin_is_not_loaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_TASKS_DISABLE_PLUGINS", "mine, another")
    registry.register("mine", offering("mine"))
    registry.register("yours", offering("yours"))
    assert registry.names("queue") == ("yours",)


def install(site: Path, name: str, code: str) -> None:
    """Install a distribution with one plugin into a folder of the import path."""
    (site / f"plugin_{name}.py").write_text(code)
    described = site / f"cloud_tasks_{name}-3.1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: cloud-tasks-{name}\nVersion: 3.1\n")
    (described / "entry_points.txt").write_text(f"[cloud_tasks]\n{name} = plugin_{name}\n")


def test_installed_plugin_with_import_error_is_reported_with_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "foggy", "import a_missing_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(only=["foggy"])
    (found,) = registry.plugins()
    assert (found.name, found.distribution, found.version) == ("foggy", "cloud-tasks-foggy", "3.1")
    with pytest.raises(PluginError, match=r"cloud-tasks-foggy 3\.1.*ModuleNotFoundError.*a_missing_library"):
        registry.compute("foggy")


RUDE = {
    "exit": ("raise SystemExit(1)", "SystemExit: 1"),
    "usage": ("import argparse; argparse.ArgumentParser().error('no')", "SystemExit: 2"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt: no message"),
    "generator": ("raise GeneratorExit", "GeneratorExit: no message"),
    "stop": ("raise StopIteration(5)", "StopIteration: 5"),
    "no_text": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError('no')\nraise Mute",
        "Mute: its message cannot be shown",
    ),
    "exits_as_text": (
        "class Mute(BaseException):\n    def __str__(self): raise SystemExit(3)\nraise Mute",
        "Mute: its message cannot be shown",
    ),
    "long": ("raise ValueError('a\\n' * 100_000)", "ValueError: a a a"),
    "group": ("raise ExceptionGroup('two', [ValueError('a'), OSError('b')])", "ExceptionGroup: two"),
    "closes_output": ("import sys; sys.stdout.close()", "closed sys.stdout"),
    "closes_errors": ("import sys; sys.stderr.close()", "closed sys.stderr"),
    "closes_all": ("import sys\nfor each in (sys.stdin, sys.stdout, sys.stderr): each.close()", "closed sys.stdin and"),
}


@pytest.mark.parametrize(("code", "cause"), RUDE.values(), ids=RUDE.keys())
def test_installed_plugin_that_fails_in_an_unusual_way_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, cause: str
) -> None:
    install(tmp_path, "rude", code + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "plugin_rude", raising=False)
    (problem,) = Registry(only=["rude"]).problems()
    assert cause in problem
    assert len(problem) < 700
    print("still open")


MEDDLES = """
import os, signal, subprocess, sys
print("printed")
print("to errors", file=sys.stderr)
sys.stdout.write("unfinished")
os.write(1, b"by descriptor\\n")
subprocess.run(["echo", "by child"])
sys.stdout.reconfigure(encoding="utf-8")
sys.stdout.buffer.write(b"bytes\\n")
os.chdir("/")
os.close(1)
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.stdout = None
"""
USE = """
import os, signal, sys
from cloud_tasks.registry import Registry
plugins = Registry(only=["meddling"]).plugins()
os.write(1, b"by descriptor, later\\n")
print([(plugin.name, plugin.problem) for plugin in plugins], os.getcwd(), signal.getsignal(signal.SIGINT).__name__)
"""


def test_installed_plugin_that_prints_at_import_leaves_standard_output_to_the_command(tmp_path: Path) -> None:
    install(tmp_path, "meddling", MEDDLES)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", USE], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout == f"by descriptor, later\n[('meddling', '')] {tmp_path} default_int_handler\n"
    for text in ("printed", "to errors", "unfinished", "by descriptor", "by child", "bytes"):
        assert text in done.stderr


def test_installed_plugin_never_takes_a_ctrl_c_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "slow", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Registry(only=["slow"]).plugins()


def test_duplicate_plugin_name_is_an_error_with_both_distributions_when_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = (
        "from backends_of_this_test import queue_backend\nfrom cloud_tasks.plugin import hookimpl\n"
        "@hookimpl\ndef cloud_tasks_register_queue():\n    return (queue_backend('{name}'),)\n"
    )
    for name in ("first", "second", "third"):
        install(tmp_path, name, offers.format(name=name))
    backends = SimpleNamespace(queue_backend=queue_backend)
    monkeypatch.setitem(sys.modules, "backends_of_this_test", backends)  # type: ignore[arg-type]
    described = tmp_path / "cloud_tasks_second-3.1.dist-info" / "entry_points.txt"
    described.write_text("[cloud_tasks]\nfirst = plugin_second\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(only=["first", "third"])
    assert registry.queue("third").name == "third"
    for name in ("first", "second"):
        with pytest.raises(
            PluginError, match=r'plugins are named "first": cloud-tasks-\w+ 3\.1 and cloud-tasks-\w+ 3\.1'
        ):
            registry.queue(name)


def test_installed_plugin_with_the_name_of_core_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "builtin", "")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry(builtins=[("builtin", offering("json"))], only=["builtin"])
    (problem,) = registry.problems()
    assert problem == 'plugin "builtin" (cloud-tasks-builtin 3.1) is broken: the name "builtin" belongs to cloud-tasks'
    assert registry.queue("json").name == "json"


def test_registry_loads_only_the_named_plugins(tmp_path: Path) -> None:
    install(tmp_path, "wanted", "")
    install(tmp_path, "other", "")
    program = (
        "import sys; from cloud_tasks.registry import Registry; Registry(only=['wanted']).plugins();"
        "print('plugin_wanted' in sys.modules, 'plugin_other' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ["True", "False"]


def test_registry_imports_no_plugin_when_created(tmp_path: Path) -> None:
    program = (
        "import sys; from cloud_tasks.registry import Registry; Registry();"
        "print([name for name in sys.modules if name.startswith('cloud_tasks_')])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
