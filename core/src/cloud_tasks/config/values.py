"""Values of keys: typed from what was written, and shown as text or JSON.

A value of a file must have the right type already; text of a variable or an option is read by the type of its key.
Both ways of writing a value give the same value.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs

from cloud_tasks.config.yaml_reader import parse_yaml_text
from cloud_tasks.duration_text import format_seconds
from cloud_tasks.model import Money
from cloud_tasks.plugin import Seconds
from cloud_tasks.setting_values import SecondsOrUnlimited, item_kinds, parse_setting, strip_optional, structure_setting

__all__ = ["plain", "show", "typed"]


def typed(kind: Any, value: Any, *, is_text: bool = False) -> Any:
    """Return a value with its type. Raises `ValueError` with a message that reads well after ``section.key: ``."""
    if is_text and isinstance(value, str):
        return parse_setting(value, kind, read=parse_yaml_text)
    if is_text and isinstance(value, tuple | list) and item_kinds(kind):
        # Each word of an option may hold several items.
        words = [parse_setting(word, kind, read=parse_yaml_text) or () for word in value if isinstance(word, str)]
        return structure_setting([item for found in words for item in found], kind, from_text=True)
    return structure_setting(value, kind, from_text=is_text)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
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
    if value == math.inf:
        # JSON has no infinity.
        return "unlimited"
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def show(value: Any, kind: Any = None) -> str:
    """Return a value on one short line; with its kind, a duration has units."""
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return " ".join(map(show, value)) or "nothing"
    if isinstance(value, int | float) and strip_optional(kind) in (Seconds, SecondsOrUnlimited, timedelta):
        return format_seconds(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    text = " ".join(str(value).split())
    return f"{text[:57]}..." if len(text) > 60 else text
