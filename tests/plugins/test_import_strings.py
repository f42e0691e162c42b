"""Import strings of the plugins of this repository."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import attrs
import pytest

from cloud_tasks.plugin.targets import imported
from cloud_tasks.registry import BACKEND_KINDS, Registry

IMPORTED = type(imported("module:attribute"))


def targets() -> list[tuple[str, str, str]]:
    """Return backend, field and import string of each descriptor."""
    registry = Registry()
    return [
        (f"{kind} {descriptor.name}", field.name, value.target)
        for kind in BACKEND_KINDS
        for _, descriptor in registry.all(kind)
        for field in attrs.fields(type(descriptor))
        if isinstance(value := getattr(descriptor, field.name), IMPORTED)
    ]


def arguments_of(field: str) -> tuple[Any, ...]:
    """Return placeholders for the arguments of a field's function."""
    return (None,) if field == "credentials_end" else (None, None)


def test_targets_are_those_of_every_provider() -> None:
    opened = {backend for backend, field, _ in targets() if field == "open"}
    assert {"queue local", "queue gcp", "queue aws", "compute azure", "pricing gcp"} <= opened


@pytest.mark.parametrize(("backend", "field", "target"), targets())
def test_target_can_be_imported_and_takes_the_arguments(backend: str, field: str, target: str) -> None:
    module, _, attribute = target.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    inspect.signature(function).bind(*arguments_of(field))
