"""Values of settings and configuration keys: supported types, their text form, and their plain (YAML, JSON) form.

Used by the configuration on the controller and by workers alike, so that both read a setting in the same way.
"""

from __future__ import annotations

from cloud_tasks.setting_values.kinds import (
    CountOrShare,
    Seconds,
    SecondsOrUnlimited,
    check_settings_class,
    describe,
    element_type,
    expected,
    field_types,
    is_number,
    is_optional,
    item_kinds,
    strip_optional,
)
from cloud_tasks.setting_values.plain import FLOAT, INTEGER, structure_setting
from cloud_tasks.setting_values.text import format_setting, is_unset, parse_setting

__all__ = [
    "FLOAT",
    "INTEGER",
    "CountOrShare",
    "Seconds",
    "SecondsOrUnlimited",
    "check_settings_class",
    "describe",
    "element_type",
    "expected",
    "field_types",
    "format_setting",
    "is_number",
    "is_optional",
    "is_unset",
    "item_kinds",
    "parse_setting",
    "strip_optional",
    "structure_setting",
]
