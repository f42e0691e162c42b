"""Settings of plugins: the worker reads from its environment the values that the controller read from the file."""

from __future__ import annotations

import ast
import json
import subprocess
from contextlib import AbstractContextManager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import attrs
import pytest

import cloud_tasks.builtin
from cloud_tasks.config import load_config
from cloud_tasks.controller.launch.startup_script import compose_startup_script
from cloud_tasks.errors import InputError, PluginError
from cloud_tasks.model import Architecture, Money
from cloud_tasks.plugin import QueueBackend, QueueTraits, hookimpl, setting
from cloud_tasks.registry import Registry
from cloud_tasks.worker.supervisor.environment import settings_from_environment


def _never(settings: Any, context: Any) -> AbstractContextManager[Any]:
    raise AssertionError("reading a configuration opens no backend")


def _registry(cls: type[Any]) -> Registry:
    traits = QueueTraits(max_lease=timedelta(minutes=10), max_message_bytes=1000, receive_batch=10, send_batch=10)

    @hookimpl
    def cloud_tasks_register_queue() -> list[QueueBackend]:
        return [QueueBackend(name="depot", summary="messages", settings=cls, traits=traits, open=_never)]

    registry = Registry(builtins=[("builtin", cloud_tasks.builtin)], only=())
    registry.register("depot", SimpleNamespace(cloud_tasks_register_queue=cloud_tasks_register_queue))
    return registry


def _settings_class(kind: Any, default: Any) -> type[Any]:
    cls = attrs.make_class("Sample", {"x": setting(help="x", default=default, worker=True)}, frozen=True, kw_only=True)
    cls.__annotations__ = {"x": kind}
    return cls


CASES: list[tuple[Any, Any, str, Any]] = [
    (timedelta, timedelta(0), "7.5", timedelta(seconds=7.5)),
    (timedelta | None, None, "7.5", timedelta(seconds=7.5)),
    (timedelta | None, timedelta(1), "null", None),
    (Literal["a", "b"], "a", "b", "b"),
    (tuple[str, ...], (), "'n[1,2]-x, other'", ("n[1,2]-x", "other")),
    (tuple[str, ...], (), "[a b, c]", ("a b", "c")),
    (tuple[str, ...], ("a", "b"), "[]", ()),
    (tuple[str, ...], ("a", "b"), '""', ()),
    (list[int], [], "[1, 2, 3]", [1, 2, 3]),
    (dict[str, int], {}, "{a: 1}", {"a": 1}),
    (dict[str, tuple[str, ...]], {}, '{a: ["x, y", ""]}', {"a": ("x, y", "")}),
    (tuple[tuple[str, ...], ...], (), "[[a b], []]", (("a b",), ())),
    (str, "default", '""', ""),
    (str, "default", '" "', " "),
    (str, "default", '"a\\nb"', "a\nb"),
    (str | None, "default", "null", None),
    (str | None, "default", '"null"', "null"),
    (bool, True, "off", False),
    (bool | None, True, "null", None),
    (Decimal, Decimal(0), "0.1", Decimal("0.1")),
    (Decimal, Decimal(0), '"0.12345678901234567890"', Decimal("0.12345678901234567890")),
    (Money, Money(0), "0.1", Money("0.1")),
    (Path | None, None, "a b", Path("a b")),
    (Path | None, None, "/a/b", Path("/a/b")),
    (tuple[Architecture, ...], (), "[ARM64]", (Architecture.ARM64,)),
]


@pytest.mark.parametrize(("kind", "default", "written", "value"), CASES, ids=[f"{c[0]}-{c[2]}" for c in CASES])
def test_settings_from_environment_returns_the_value_of_the_controller(
    kind: Any, default: Any, written: str, value: Any, tmp_path: Path
) -> None:
    cls, file = _settings_class(kind, default), tmp_path / "config.yml"
    if isinstance(value, Path):
        # A relative path in the file is relative to its folder, on both sides.
        value = tmp_path / value
    file.write_text(f"queue: depot\ndepot:\n  x: {written}\n")
    config = load_config(_registry(cls), file=file, options={}, environ={})
    assert config.settings_for("queue", "depot") == cls(x=value)

    exported = config.worker_environment()
    assert settings_from_environment(cls, "depot", exported) == cls(x=value)
    again = load_config(_registry(cls), file=None, options={"queue": "depot"}, environ=exported)
    assert again.settings_for("queue", "depot") == cls(x=value)


@pytest.mark.parametrize("value", ["it's", 'a "b" $HOME `x`', "a\\nb", "line\nline", "ä, ö", "\t", '["a"]', "!x"])
def test_startup_script_passes_a_setting_unchanged(value: str) -> None:
    @attrs.frozen(kw_only=True)
    class Sample:
        x: str = setting(help="x", worker=True)

    config = load_config(
        _registry(Sample), file=None, options={"queue": "depot"}, environ={"CLOUD_TASKS_DEPOT_X": json.dumps(value)}
    )
    config = attrs.evolve(config, values={"depot": {"x": value}})
    print_it = "#!/bin/bash\npython3 -c 'import os; print(ascii(os.environ[\"CLOUD_TASKS_DEPOT_X\"]))'\n"
    script = compose_startup_script(print_it, {}, (), config.worker_environment())
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    environ = {"CLOUD_TASKS_DEPOT_X": ast.literal_eval(shown)}
    assert settings_from_environment(Sample, "depot", environ) == Sample(x=value)


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_settings_of_blanks_are_unset_on_both_sides(text: str) -> None:
    cls, environ = _settings_class(bool, True), {"CLOUD_TASKS_DEPOT_X": text}
    config = load_config(_registry(cls), file=None, options={"queue": "depot"}, environ=environ)
    assert config.settings_for("queue", "depot") == cls(x=True)
    assert settings_from_environment(cls, "depot", environ) == cls(x=True)


@pytest.mark.parametrize("text", ["maybe", "2", "tru"])
def test_settings_are_rejected_with_the_same_reason_on_both_sides(text: str) -> None:
    cls, environ = _settings_class(bool, True), {"CLOUD_TASKS_DEPOT_X": text}
    with pytest.raises(InputError) as on_controller:
        load_config(_registry(cls), file=None, options={"queue": "depot"}, environ=environ)
    with pytest.raises(InputError) as on_worker:
        settings_from_environment(cls, "depot", environ)
    expected = f'CLOUD_TASKS_DEPOT_X: depot.x: expected true or false, got "{text}"'
    assert [str(on_controller.value), str(on_worker.value)] == [expected, expected]


def test_registry_rejects_a_plugin_with_an_unsupported_type_of_setting() -> None:
    registry = _registry(_settings_class(complex, 0))
    with pytest.raises(PluginError) as caught:
        registry.queue("depot")
    assert 'plugin "depot" (in memory) is broken' in str(caught.value)
    assert "Sample.x: the type complex is not supported for a setting; supported: bool, int, float," in str(
        caught.value
    )


def test_settings_report_an_exception_of_a_validator_as_a_failed_check() -> None:
    def compare(instance: object, attribute: object, value: Any) -> None:
        if value < "0":
            raise ValueError

    cls = attrs.make_class("Sample", {"x": setting(help="x", default=1, validator=compare)}, kw_only=True)
    cls.__annotations__ = {"x": int}
    options = {"queue": "depot", "depot.x": "2"}
    with pytest.raises(
        InputError, match=r"depot\.x: the check of this setting failed with TypeError: '<' not supported"
    ):
        load_config(_registry(cls), file=None, options=options, environ={})


def test_settings_from_environment_never_shows_a_secret() -> None:
    @attrs.frozen(kw_only=True)
    class Sample:
        key: int = setting(help="x", default=1, secret=True)

    with pytest.raises(InputError) as caught:
        settings_from_environment(Sample, "depot", {"CLOUD_TASKS_DEPOT_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)
