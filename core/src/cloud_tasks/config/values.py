"""Gives written values their types, strictly, and turns typed values back into text and JSON.

What YAML already typed has to have the right type (``"8"`` is no number, ``true`` is no number); text from a variable
or an option is read as its key's type asks, so that both ways of writing a value mean the same.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs

from cloud_tasks.config.provenance import Sourced
from cloud_tasks.config.yaml_reader import parse_yaml_text
from cloud_tasks.model import Money
from cloud_tasks.plugin.setting_kinds import item_kinds
from cloud_tasks.plugin.setting_text import parse_setting
from cloud_tasks.plugin.setting_values import structure_setting

__all__ = ["plain", "show", "typed"]


def typed(kind: Any, value: Sourced) -> Any:
    """The value with its type. Raises `ValueError` with a reason that reads well after ``section.key: ``."""
    raw = value.raw
    if value.is_text and isinstance(raw, str):
        return parse_setting(raw, kind, read=parse_yaml_text)
    if value.is_text and isinstance(raw, tuple | list) and item_kinds(kind):
        # Each of an option's words may hold several.
        words = [parse_setting(word, kind, read=parse_yaml_text) or () for word in raw if isinstance(word, str)]
        return structure_setting([item for found in words for item in found], kind, from_text=True)
    return structure_setting(raw, kind, from_text=value.is_text)


def plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, Money):
        return int(value.usd) if value.usd == value.usd.to_integral_value() else float(value.usd)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if attrs.has(type(value)):
        return {name: plain(item) for name, item in attrs.asdict(value, recurse=False).items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def show(value: Any) -> str:
    """The value on one short line."""
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return " ".join(map(show, value)) or "nothing"
    if isinstance(value, float):
        return f"{value:.12g}"
    text = " ".join(str(value).split())
    return f"{text[:57]}..." if len(text) > 60 else text
