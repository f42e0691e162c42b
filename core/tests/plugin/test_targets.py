"""Import strings of descriptors."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cloud_tasks.errors import PluginError
from cloud_tasks.plugin import EventSinkBackend, EventSinkContext, NoSettings
from cloud_tasks.plugin.targets import imported, imported_open

CONTEXT = EventSinkContext(job_id="job")


class Closable:
    def __init__(self, settings: NoSettings, context: EventSinkContext) -> None:
        self.context = context
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Unclosable:
    def __init__(self, settings: NoSettings, context: EventSinkContext) -> None:
        self.context = context


@contextmanager
def managed(settings: NoSettings, context: EventSinkContext) -> Iterator[Closable]:
    yield Closable(settings, context)


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that import strings can name."""
    module = types.ModuleType("imported_targets")
    vars(module).update(Closable=Closable, Unclosable=Unclosable, managed=managed, double=lambda number: 2 * number)
    monkeypatch.setitem(sys.modules, "imported_targets", module)


def opened(target: str) -> object:
    backend = EventSinkBackend(name="any", summary="any", open=target)
    with backend.open(NoSettings(), CONTEXT) as sink:
        return sink


def test_open_closes_the_object_of_a_class() -> None:
    sink = opened("imported_targets:Closable")
    assert isinstance(sink, Closable)
    assert (sink.context, sink.closed) == (CONTEXT, 1)


def test_open_closes_the_object_after_an_error() -> None:
    with pytest.raises(KeyError), imported_open("imported_targets:Closable")(NoSettings(), CONTEXT) as sink:
        raise KeyError
    assert sink.closed == 1


def test_open_takes_an_object_without_close() -> None:
    assert isinstance(opened("imported_targets:Unclosable"), Unclosable)


def test_open_uses_a_context_manager_as_it_is() -> None:
    sink = opened("imported_targets:managed")
    assert isinstance(sink, Closable)
    assert sink.closed == 0


def test_imported_calls_the_function() -> None:
    assert imported("imported_targets:double")(4) == 8


def test_imported_keeps_functions_and_none() -> None:
    assert imported(len) is len
    assert imported(None) is None
    assert imported_open(managed) is managed


def test_imported_of_one_string_is_equal() -> None:
    assert imported("a:b") == imported("a:b") != imported("a:c")


@pytest.mark.parametrize("target", ["", "module", "module:", ":name", "module:a.b", "mod ule:a", "module.:a", "1m:a"])
def test_descriptor_refuses_an_invalid_import_string(target: str) -> None:
    with pytest.raises(ValueError, match="expected module:attribute"):
        EventSinkBackend(name="any", summary="any", open=target)


def test_call_without_the_attribute_names_the_import_string() -> None:
    with pytest.raises(PluginError, match=r'cannot import "imported_targets:missing".*missing'):
        imported("imported_targets:missing")()


def test_call_without_the_module_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        imported("no_such_module:name")()


def test_attribute_error_of_the_function_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise AttributeError("own")

    monkeypatch.setattr("imported_targets.double", broken)
    with pytest.raises(AttributeError, match="own"):
        imported("imported_targets:double")()


def test_registration_imports_nothing() -> None:
    program = (
        "import sys; from cloud_tasks.plugin import EventSinkBackend; "
        "EventSinkBackend(name='a', summary='a', open='wave:open'); print('wave' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
