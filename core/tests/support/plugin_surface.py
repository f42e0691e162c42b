"""The plugin API as text, for the snapshot and for the documentation. Run as a program, print the snapshot."""

from __future__ import annotations

import inspect
import re
from typing import Any

import attrs

import cloud_tasks.plugin
import cloud_tasks.plugin.kit
from cloud_tasks.deprecation import fields_deprecated_by
from cloud_tasks.plugin import hooks

__all__ = ["describe_surface", "hook_names", "methods_of", "signature_of"]


def hook_names() -> tuple[str, ...]:
    """Return the names of all hooks."""
    return tuple(sorted(name for name in vars(hooks) if name.startswith("cloud_tasks_register_")))


def signature_of(function: Any) -> str:
    """Return ``name(arguments) -> result`` as written in the code."""
    # Annotations are kept as text, which the signature quotes.
    text: str = re.sub(r"'([^']*)'", r"\1", str(inspect.signature(function)))
    text = re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text)
    return str(function.__name__) + text.replace("datetime.timedelta(", "timedelta(")


def methods_of(protocol: type[Any]) -> list[str]:
    """Return the signatures of a class's own public and abstract methods and properties, in order."""
    found = []
    for name, value in vars(protocol).items():
        is_part = name == "__iter__" or not name.startswith("_") or getattr(value, "__isabstractmethod__", False)
        if inspect.isfunction(value) and is_part:
            found.append(signature_of(value))
        elif isinstance(value, property):
            found.append(f"{name}: {inspect.signature(value.fget).return_annotation}")  # type: ignore[arg-type]
    return found


def describe_surface() -> str:
    """Return one block for each exported name and each hook."""
    blocks = [_block(name, getattr(cloud_tasks.plugin, name)) for name in sorted(cloud_tasks.plugin.__all__)]
    blocks += [f"hook {signature_of(getattr(hooks, name))}" for name in hook_names()]
    kit = cloud_tasks.plugin.kit
    blocks += [f"kit {_block(name, getattr(kit, name))}" for name in sorted(kit.__all__)]
    return "\n\n".join(blocks) + "\n"


def _block(name: str, value: Any) -> str:
    if inspect.isfunction(value):
        return f"function {signature_of(value)}"
    if not inspect.isclass(value):
        # The text of a program is no part of the contract.
        is_short = isinstance(value, str) and "\n" not in value
        return f"value {name}: {value!r}" if is_short else f"value {name}: {type(value).__name__}"
    if attrs.has(value):
        bases = [base.__name__ for base in value.__bases__ if base is not object]
        head = f"class {name}({', '.join(bases)})" if bases else f"class {name}"
        former = [f"{name} (deprecated, {change})" for name, change in fields_deprecated_by(value).items()]
        return "\n    ".join([head, *map(_field, attrs.fields(value)), *former])
    kind = "protocol" if getattr(value, "_is_protocol", False) else "class"
    made = [signature_of(value.__init__)] if kind == "class" else []
    return "\n    ".join([f"{kind} {name}", *made, *methods_of(value)])


def _field(field: attrs.Attribute[Any]) -> str:
    text = f"{field.name}: {field.type if isinstance(field.type, str) else getattr(field.type, '__name__', field.type)}"
    if field.default is attrs.NOTHING:
        return text
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class that attrs declares as a function
        return f"{text} = (made)"
    is_named = inspect.isfunction(default) or inspect.isclass(default)
    return f"{text} = {default.__name__ if is_named else repr(default).replace('datetime.', '')}"


if __name__ == "__main__":
    print(describe_surface(), end="")
