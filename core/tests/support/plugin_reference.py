"""Generate ``docs/plugins/reference.md``: everything that authors of plugins use, from the docstrings."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from plugin_surface import signature_of

from cloud_tasks.attribute_docs import attribute_texts
from cloud_tasks.testing import Contract

__all__ = ["plugin_reference"]

FRONTS = {
    "cloud_tasks.plugin": "Hooks, descriptors, traits, contexts and Protocols. Plugins import it.",
    "cloud_tasks.plugin.kit": "Building blocks of providers, with examples: [provider kit](kit.md). Plugins import it.",
    "cloud_tasks.model": "The classes that backends receive and return. Plugins import it.",
    "cloud_tasks.errors": "The errors that backends raise. Plugins import it.",
    "cloud_tasks.testing": "Contracts, their subjects, and fakes. Tests of plugins import it.",
}

_HEAD = """# API reference

Generated from the docstrings by `{command}`; a test compares. `help(name)` shows the same text.

The pages of the [hooks](index.md) explain how these names are used together.
"""


def plugin_reference(command: str) -> str:
    """Return the page."""
    parts = [_HEAD.format(command=command)]
    for front, text in FRONTS.items():
        module = importlib.import_module(front)
        parts.append(f"## {front}\n\n{text}\n")
        parts += [_entry(name, getattr(module, name)) for name in sorted(module.__all__, key=str.lower)]
    return "\n".join(parts).rstrip() + "\n"


def _entry(name: str, value: Any) -> str:
    parts = [f"### {name}\n"]
    if isinstance(value, type):
        parts += _class(value)
    elif inspect.isfunction(value):
        parts += [f"`{signature_of(value)}`\n", *_prose(inspect.getdoc(value) or "")]
    else:
        # A set has no order.
        members = sorted(map(str, value)) if isinstance(value, frozenset) else [repr(value)]
        parts.append(
            ", ".join(f"`{each}`" for each in members) + "\n"
            if " at 0x" not in str(value)
            else f"An object of the class `{type(value).__name__}`.\n"
        )
    return "\n".join(parts)


def _class(cls: type[Any]) -> Iterator[str]:
    yield from _prose((inspect.getdoc(cls) or "").partition("\nAttributes:\n")[0])
    if issubclass(cls, enum.Enum):
        yield _table(("member", "value", "meaning"), [(f"`{e.name}`", f"`{e.value}`", _member(e)) for e in cls])
    elif attrs.has(cls):
        texts = attribute_texts(cls)
        rows = [(f"`{f.name}`", f"`{_type(f)}`", _default(f), texts[f.name]) for f in attrs.fields(cls) if f.init]
        yield _table(("attribute", "type", "default", "meaning"), rows)
    elif not getattr(cls, "_is_protocol", False) and not issubclass(cls, Contract):
        yield f"`{_signature(cls, cls.__name__)}`\n"
    methods = [(f"`{label}`", _one_line(inspect.getdoc(part) or "")) for label, part in _methods(cls)]
    if methods:
        yield _table(("method or property", "meaning"), methods)
    if issubclass(cls, Contract) and cls is not Contract:
        yield "Tests: " + ", ".join(f"`{name}`" for name in sorted(cls.contract_tests)) + "\n"


def _methods(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("cloud_tasks"):
            found |= vars(base)
    for name, part in found.items():
        is_hook = name == "__iter__" or getattr(part, "__isabstractmethod__", False)
        if name.startswith("test_") or (name.startswith("_") and not is_hook):
            continue
        part = part.__func__ if isinstance(part, (classmethod, staticmethod)) else part
        if inspect.isfunction(part):
            yield signature_of(part), part
        elif isinstance(part, property):
            yield name, part


def _member(member: enum.Enum) -> str:
    found = re.search(rf"^    {member.name}: (.*(?:\n     .*)*)", inspect.getdoc(type(member)) or "", re.MULTILINE)
    return found[1] if found else ""


def _signature(value: Any, name: str) -> str:
    text = re.sub(r"'([^']*)'", r"\1", str(inspect.signature(value)))
    return name + re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text).replace(" -> None", "")


def _type(field: attrs.Attribute[Any]) -> str:
    return field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))


def _default(field: attrs.Attribute[Any]) -> str:
    default: Any = field.default
    if default is attrs.NOTHING:
        return "required"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class that attrs declares as a function
        name = getattr(default.factory, "__qualname__", "")
        return "computed" if "<lambda>" in name else f"`{name}()`"
    if isinstance(default, enum.Enum):
        return f"`{default}`"
    if inspect.isfunction(default):
        return "a function" if "<lambda>" in default.__qualname__ else f"`{default.__name__}`"
    text = default.__name__ if isinstance(default, type) else repr(default).replace("datetime.", "")
    return f"`{text}`" if "\n" not in text and len(text) < 60 else "see the source"


def _prose(text: str) -> Iterator[str]:
    """Yield a docstring with its sections as lists."""
    for paragraph in re.split(r"\n\n+", text.strip()):
        title, _, rest = paragraph.partition("\n")
        if re.fullmatch(r"(Args|Raises|Yields):", title):
            items = re.split(r"\n(?=    \S)", "\n" + inspect.cleandoc(" \n" + rest).replace("\n", "\n    "))
            named = [_one_line(item).partition(": ") for item in items if item.strip()]
            verb = "" if title == "Args:" else f"{title.removesuffix(':').lower()} "
            yield "\n".join(f"- {verb}`{name}`: {_escaped(meaning)}" for name, _, meaning in named) + "\n"
        else:
            yield _escaped(_one_line(paragraph)) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    # Outside of code, an angle bracket would start a tag.
    parts = re.split(r"(``.*?``|`[^`]*`)", text)
    return "".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(' --- ' for _ in head)}|"]
    lines += ["| " + " | ".join(_escaped(_one_line(cell)).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
