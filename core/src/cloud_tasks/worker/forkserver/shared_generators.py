"""Search for random number generators that the program has created, and that every task would get a copy of.

Invariants, each with a test:

1. The search reads module variables, attributes and containers of the program's own modules, and calls no code of the
   program.
2. It is bounded, and runs once per worker.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["describe_shared_generators"]

_GENERATORS = (
    ("random", "Random"),
    ("numpy.random", "Generator"),
    ("numpy.random", "RandomState"),
    ("numpy.random", "BitGenerator"),
    ("torch", "Generator"),
)
_MAX_VALUES = 20_000
"""Values that are looked at."""
_MAX_ENTRIES = 100
"""Entries of a container that are looked at."""
_MAX_NAMES = 3
"""Generators that are named."""


def describe_shared_generators(worker_data: Any) -> str:
    """Return a warning that names the generators in the program's modules and on ``worker_data``; empty for none."""
    kinds = _generator_types()
    known = {*_global_generators()}
    found: list[str] = []
    for place, value in itertools.islice(_values(worker_data), _MAX_VALUES):
        if issubclass(type(value), tuple(kinds)) and type(value).__name__ != "SystemRandom" and id(value) not in known:
            known.add(id(value))
            found.append(f"{place} ({type(value).__module__}.{type(value).__qualname__})")
    if not found:
        return ""
    names = ", ".join(found[:_MAX_NAMES]) + (f" and {len(found) - _MAX_NAMES} more" if len(found) > _MAX_NAMES else "")
    return (
        f"Tasks may draw the same random numbers: {names} is created once, and each task gets a copy; create "
        "generators in the task's function from worker_data.seed, such as numpy.random.default_rng(worker_data.seed)"
    )


def _generator_types() -> set[type[Any]]:
    """Return the classes of generators of the loaded libraries."""
    kinds = (getattr(sys.modules.get(module), name, None) for module, name in _GENERATORS)
    return {kind for kind in kinds if isinstance(kind, type)}


def _global_generators() -> Iterator[int]:
    """Yield the ids of the global generators, which are reseeded in each task."""
    yield id(getattr(sys.modules.get("random"), "_inst", None))
    mtrand: Any = sys.modules.get("numpy.random.mtrand")
    state = getattr(mtrand, "_rand", None)
    yield id(state)
    yield id(getattr(state, "_bit_generator", None))


def _values(worker_data: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each variable, and of the parts of each."""
    modules = _own_modules()
    own = {*modules, "__main__"}
    variables = [(f"worker_data.{name}", value) for name, value in vars(worker_data).items()]
    for module, content in modules.items():
        prefix = "" if module == "__main__" else f"{module}."
        variables += [(f"{prefix}{name}", value) for name, value in content.items()]
    for name, value in variables:
        yield name, value
        kind = type(value)
        if kind in (list, tuple, set, frozenset):
            yield from ((f"{name}[…]", part) for part in itertools.islice(value, _MAX_ENTRIES))
        elif kind is dict:
            yield from ((f"{name}[…]", part) for part in list(value.values())[:_MAX_ENTRIES])
        elif issubclass(kind, type):
            attributes = dict(type.__getattribute__(value, "__dict__")) if value.__module__ in own else {}
            yield from ((f"{name}.{key}", part) for key, part in itertools.islice(attributes.items(), _MAX_ENTRIES))
        elif kind.__module__ in own:
            attributes = _attributes(value)
            yield from ((f"{name}.{key}", part) for key, part in itertools.islice(attributes.items(), _MAX_ENTRIES))


def _attributes(value: Any) -> dict[str, Any]:
    try:
        content = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return dict(content) if type(content) is dict else {}


def _own_modules() -> dict[str, dict[str, Any]]:
    """Return the variables of each module that is neither of the standard library nor installed."""
    library = os.path.dirname(os.__file__) + os.sep
    found = {}
    for name, module in list(sys.modules.items()):
        if not issubclass(type(module), ModuleType) or name.partition(".")[0] == "cloud_tasks":
            continue
        content = ModuleType.__getattribute__(module, "__dict__")
        file = content.get("__file__")
        is_own = isinstance(file, str) and not file.startswith(library) and "-packages" + os.sep not in file
        if is_own or name == "__main__":
            found[name] = dict(content)
    return found
