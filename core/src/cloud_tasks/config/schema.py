"""JSON Schema of the configuration file, from the settings classes of core and of the installed plugins."""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import attrs

from cloud_tasks.config.sections import PROVIDER_KINDS, TOP_LEVEL, Key, Section, default_of, find_sections, run_section
from cloud_tasks.config.values import plain
from cloud_tasks.duration_text import DURATION_PATTERN
from cloud_tasks.model import Money
from cloud_tasks.plugin import Seconds
from cloud_tasks.registry import Registry
from cloud_tasks.setting_values import CountOrShare, SecondsOrUnlimited, element_type, strip_optional

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE: Mapping[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "string",
}


def json_schema(registry: Registry) -> dict[str, Any]:
    """Return the schema (draft 2020-12). The section of a plugin that is not installed accepts any key."""
    run = run_section()
    properties: dict[str, Any] = {key: _top_level(key, registry) for key in TOP_LEVEL}
    properties["run"] = _section(run, {}, "Settings of the job")
    for name, section in sorted(find_sections(registry).items()):
        if section.is_open:
            properties[name] = {"type": ["object", "null"], "description": f"Plugin {name}, which is not installed"}
        elif section.keys or section.takes_run_keys:
            inherited = run.keys if section.takes_run_keys else {}
            properties[name] = _section(
                section, inherited, f"Plugin {name}" + ("; keys of run are accepted too" if inherited else "")
            )
    return {
        "$schema": _DIALECT,
        "title": "cloud-tasks configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _top_level(key: str, registry: Registry) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": TOP_LEVEL[key]}
    if key == "event_sinks":
        names = {"type": "string", "examples": list(registry.names("event_sink"))}
        return {**schema, "anyOf": [{"type": "string"}, {"type": "array", "items": names}, {"type": "null"}]}
    kinds = PROVIDER_KINDS if key == "provider" else (key,)
    # Names are accepted in any case, so they are examples, not an enumeration.
    examples = sorted({name for kind in kinds if kind in PROVIDER_KINDS for name in registry.names(kind)})
    return {**schema, "type": ["string", "null"], **({"examples": examples} if examples else {})}


def _section(section: Section, inherited: Mapping[str, Key], description: str) -> dict[str, Any]:
    keys = {**inherited, **section.keys}
    return {
        "type": ["object", "null"],
        "description": description,
        "additionalProperties": False,
        "properties": {name: _key(key) for name, key in keys.items()},
    }


def _key(key: Key) -> dict[str, Any]:
    field = key.owners[0][1]
    schema = _typed(key.kind, _checks(field.validator))
    if info := key.info.help:
        schema["description"] = info
    if key.secret:
        schema["writeOnly"] = True
    elif (default := default_of(field)) is not attrs.NOTHING:
        schema["default"] = plain(default)
    return schema


def _checks(validator: Any) -> dict[str, Any]:
    """Return the schema of a validator of core; empty for other validators."""
    own = getattr(validator, "schema", None)
    found: dict[str, Any] = own() if callable(own) else {}
    return found


def _typed(kind: Any, checks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a type. A file may always hold null: no value, or not given."""
    base = strip_optional(kind)
    if base is Any:
        return {}
    if (element := element_type(base)) is not None:
        items = {"type": "array", "items": _required(element, checks)}
        # A text is read as a list of words.
        text = [{"type": "string"}] if element in (str, Path) else []
        return {"anyOf": [*text, items, {"type": "null"}]}
    schema = _required(base, checks)
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "enum" in schema:
        schema = {**schema, "enum": [*schema["enum"], None]}
    if found := schema.get("type"):
        return {**schema, "type": [*([found] if isinstance(found, str) else found), "null"]}
    return schema if "enum" in schema else {"anyOf": [schema, {"type": "null"}]}


def _required(kind: Any, checks: Mapping[str, Any]) -> dict[str, Any]:
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind], **checks}
    if kind in (Seconds, timedelta):
        text = {"type": "string", "pattern": f"^(?=.*[0-9]){DURATION_PATTERN}$"}
        return {"anyOf": [{"type": "number", **checks}, text]}
    if kind == SecondsOrUnlimited:
        text = {"type": "string", "pattern": f"^(?:unlimited|(?=.*[0-9]){DURATION_PATTERN})$"}
        return {"anyOf": [{"type": "number", **checks}, text]}
    if kind is CountOrShare:
        return {"type": ["integer", "string"], **checks}
    if kind is Money:
        return {"type": "number", **checks}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        words = [str(member.value) for member in kind]
        either = "|".join("".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in word) for word in words)
        return {"type": "string", "pattern": f"^(?:{either})$", "examples": words}
    if typing.get_origin(kind) is Literal:
        return {"enum": list(typing.get_args(kind))}
    if hasattr(kind, "json_schema"):
        own: dict[str, Any] = kind.json_schema()
        return own
    return {"type": "object", **checks} if (typing.get_origin(kind) or kind) in (dict, Mapping) else {}
