"""`help()` on everything that authors of plugins use names every field, member, trait, argument and method."""

from __future__ import annotations

import enum
import importlib
import inspect
import pydoc
import subprocess
import sys
from types import FunctionType
from typing import Any

import attrs
import pytest

from cloud_tasks.attribute_docs import attribute_texts, show_attributes
from cloud_tasks.testing import Contract

FRONTS = ("errors", "model", "plugin", "plugin.kit", "testing")
PUBLIC = [
    pytest.param(value, id=f"{front}.{name}")
    for front in FRONTS
    for module in [importlib.import_module(f"cloud_tasks.{front}")]
    for name in module.__all__
    if isinstance(value := getattr(module, name), type)
]
FUNCTIONS = [
    pytest.param(value, id=f"{front}.{name}")
    for front in FRONTS
    for module in [importlib.import_module(f"cloud_tasks.{front}")]
    for name in module.__all__
    if inspect.isfunction(value := getattr(module, name))
]


def own_doc(cls: type[Any]) -> str:
    return str(vars(cls).get("__doc__") and cls.__doc__)


def documented_in(cls: type[Any]) -> str:
    """Return the docstrings of a class and of its bases in this package."""
    return "\n".join(own_doc(base) for base in cls.__mro__ if base.__module__.startswith("cloud_tasks"))


def parts_of(cls: type[Any]) -> dict[str, Any]:
    """Return the public methods and properties of a class, those of its bases in this package included."""
    bases = [base for base in reversed(cls.__mro__) if base.__module__.startswith("cloud_tasks")]
    return {
        name: part
        for base in bases
        for name, part in vars(base).items()
        if not name.startswith("_") and isinstance(part, (property, classmethod, staticmethod, FunctionType))
    }


@pytest.mark.parametrize("cls", PUBLIC)
def test_class_has_a_docstring_of_its_own(cls: type[Any]) -> None:
    first = own_doc(cls).partition("\n")[0]
    assert first.strip(), cls
    assert not first.startswith(f"{cls.__name__}("), "the docstring is the one that attrs or Python makes"


@pytest.mark.parametrize("cls", PUBLIC)
def test_docstring_has_a_line_for_each_field_and_member(cls: type[Any]) -> None:
    names = [field.name for field in attrs.fields(cls) if field.init] if attrs.has(cls) else []
    names += [member.name for member in cls] if issubclass(cls, enum.Enum) else []
    shown = (inspect.getdoc(cls) or "").partition("Attributes:")[2]
    assert [name for name in names if f"\n    {name}: " not in shown] == []


@pytest.mark.parametrize("cls", PUBLIC)
def test_docstring_has_a_line_for_each_argument(cls: type[Any]) -> None:
    if (
        attrs.has(cls)
        or issubclass(cls, enum.Enum)
        or "__init__" not in dir(cls)
        or getattr(cls, "_is_protocol", False)
    ):
        return
    arguments = [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs", "arguments")]
    assert [name for name in arguments if f" {name}: " not in documented_in(cls)] == []


@pytest.mark.parametrize("cls", PUBLIC)
def test_methods_and_properties_have_docstrings(cls: type[Any]) -> None:
    tests = cls.contract_tests if issubclass(cls, Contract) else ()
    assert [name for name, part in parts_of(cls).items() if not inspect.getdoc(part) and name not in tests] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_has_a_docstring(function: Any) -> None:
    assert inspect.getdoc(function)


def test_show_attributes_includes_those_of_bases() -> None:
    class Derived(Contract):
        size: int = 3
        """Size in bytes,
        of everything."""
        weight: int = 4

    assert attribute_texts(Derived)["contract_tests"] == "Names of the contract's tests."
    # Not of this package: its own fields are not shown.
    assert "size" not in attribute_texts(Derived)
    assert show_attributes("text") == "text"


def test_show_attributes_keeps_the_docstring_of_a_class_without_source() -> None:
    namespace: dict[str, Any] = {"__name__": "cloud_tasks.no_such_module"}
    exec("class Made:\n    'One line.'\n    size: int = 3\n    'Size.'\n", namespace)
    assert show_attributes(namespace["Made"]).__doc__ == "One line."
    assert namespace["Made"]().__doc__ == "One line."


def test_show_attributes_reads_no_source_before_a_docstring_is_read() -> None:
    program = (
        "import sys\n"
        "from cloud_tasks.attribute_docs import show_attributes\n"
        "from cloud_tasks.plugin.checks import Finding\n"
        "for name in ('ast', 'inspect', 'tokenize'): sys.modules[name] = None\n"
        "assert show_attributes(Finding).__name__ == 'Finding'\n"
        "del sys.modules['ast'], sys.modules['inspect'], sys.modules['tokenize']\n"
        "assert 'remedy: Suggested fix' in Finding.__doc__\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("model.InstanceState", "STARTING: Booting; billed."),
        ("model.Instance", "zone: Name of its zone."),
        ("model.Limits", "max_total_cost: "),
        ("testing.QueueSubject", "patience: Time limit for receiving an available message."),
        ("plugin.QueueBackend", "summary: One line for"),
        ("errors.RefusalScope", "ACCOUNT: Every launch"),
    ],
)
def test_help_shows_the_lines(name: str, line: str) -> None:
    module, _, cls = name.rpartition(".")
    text = pydoc.plain(pydoc.render_doc(getattr(importlib.import_module(f"cloud_tasks.{module}"), cls)))
    assert f" |      {line}" in text


@pytest.mark.parametrize("front", ["model", "plugin.kit", "testing"])
def test_help_of_a_front_shows_its_names(front: str) -> None:
    module = importlib.import_module(f"cloud_tasks.{front}")
    text = pydoc.plain(pydoc.render_doc(module))
    names = [name for name in module.__all__ if isinstance(getattr(module, name), (type, FunctionType))]
    assert [name for name in names if name not in text.partition("\nDATA\n")[0]] == []
