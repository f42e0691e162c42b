"""The public surface for plugin authors as text: what the snapshot holds and what the documentation quotes.

Run as a program, it prints what the snapshot should hold.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import attrs

import cloud_tasks.plugin
from cloud_tasks.plugin import hooks
from cloud_tasks.plugin.deprecation import fields_deprecated_by

__all__ = ["describe_surface", "hook_names", "methods_of", "signature_of"]


def hook_names() -> tuple[str, ...]:
    """Every hook there is."""
    return tuple(sorted(name for name in vars(hooks) if name.startswith("cloud_tasks_register_")))


def signature_of(function: Any) -> str:
    """``name(arguments) -> result``, as it is written."""
    # Annotations are kept as text, which the signature quotes.
    text: str = re.sub(r"'([^']*)'", r"\1", str(inspect.signature(function)))
    return str(function.__name__) + text.replace("datetime.timedelta(", "timedelta(")


def methods_of(protocol: type[Any]) -> list[str]:
    """The signatures of a Protocol's own methods, in order."""
    own = [value for value in vars(protocol).values() if inspect.isfunction(value)]
    return [
        signature_of(method) for method in own if method.__name__ == "__iter__" or not method.__name__.startswith("_")
    ]


def describe_surface() -> str:
    """One block for each exported name and each hook."""
    blocks = [_block(name, getattr(cloud_tasks.plugin, name)) for name in sorted(cloud_tasks.plugin.__all__)]
    blocks += [f"hook {signature_of(getattr(hooks, name))}" for name in hook_names()]
    return "\n\n".join(blocks) + "\n"


def _block(name: str, value: Any) -> str:
    if inspect.isfunction(value):
        return f"function {signature_of(value)}"
    if not inspect.isclass(value):
        return f"value {name}: {value!r}" if isinstance(value, str) else f"value {name}: {type(value).__name__}"
    if attrs.has(value):
        bases = [base.__name__ for base in value.__bases__ if base is not object]
        head = f"class {name}({', '.join(bases)})" if bases else f"class {name}"
        former = [f"{name} (deprecated, {change})" for name, change in fields_deprecated_by(value).items()]
        return "\n    ".join([head, *map(_field, attrs.fields(value)), *former])
    return "\n".join([f"protocol {name}", *(f"    {method}" for method in methods_of(value))])


def _field(field: attrs.Attribute[Any]) -> str:
    text = f"{field.name}: {field.type if isinstance(field.type, str) else getattr(field.type, '__name__', field.type)}"
    if field.default is attrs.NOTHING:
        return text
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class that attrs declares as a function
        return f"{text} = (made)"
    return f"{text} = {default.__name__ if inspect.isclass(default) else repr(default).replace('datetime.', '')}"


if __name__ == "__main__":
    print(describe_surface(), end="")
