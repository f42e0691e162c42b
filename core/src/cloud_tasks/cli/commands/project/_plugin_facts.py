"""Data and text of ``plugins show``, from the descriptors of a plugin; opens nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs

from cloud_tasks.config import default_of, plain, variable_name
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import CommandDescriptor, setting_info
from cloud_tasks.quantities import format_duration
from cloud_tasks.registry import Plugin
from cloud_tasks.setting_values import describe, field_types

__all__ = ["backend_facts", "find_plugin", "render_plugin"]


def find_plugin(plugins: Sequence[Plugin], name: str) -> Plugin:
    """Return the plugin of this name, else the one that registers a backend of this name.

    Raises:
        InputError: The name is unknown, or several plugins register it.
    """
    named = [plugin for plugin in plugins if plugin.name == name]
    if len(named) == 1:
        return named[0]
    if named:
        owners = " and ".join(plugin.distribution for plugin in named)
        raise InputError(f'several plugins are named "{name}": {owners}', hint="uninstall one of them")
    found = [plugin for plugin in plugins if any(item.name == name for _, item in plugin.registered)]
    if len(found) == 1:
        return found[0]
    if found:
        owners = " and ".join(plugin.name for plugin in found)
        raise InputError(f'"{name}" is registered by several plugins: {owners}', hint="show one of them")
    known = sorted({plugin.name for plugin in plugins} | {item.name for each in plugins for _, item in each.registered})
    close = difflib.get_close_matches(name, known, n=1)
    advice = f'did you mean "{close[0]}"?' if close else 'see "cloud-tasks plugins"'
    raise InputError(f'unknown plugin "{name}"', hint=advice)


def backend_facts(kind: str, descriptor: Any) -> dict[str, Any]:
    """Return a descriptor as JSON values; durations in seconds, missing defaults and secrets null."""
    facts: dict[str, Any] = {"axis": kind, "name": descriptor.name, "summary": descriptor.summary}
    if isinstance(descriptor, CommandDescriptor):
        return facts
    traits = getattr(descriptor, "traits", None)
    if traits is not None:
        facts["traits"] = {field.name: _value(getattr(traits, field.name)) for field in attrs.fields(type(traits))}
    suffixes = getattr(descriptor, "suffixes", ())
    if suffixes:
        facts["suffixes"] = list(suffixes)
    facts["settings"] = list(_settings(descriptor.name, descriptor.settings))
    return facts


def _settings(section: str, kind: type[Any]) -> Iterable[dict[str, Any]]:
    if not attrs.has(kind):
        return
    types = field_types(kind)
    for field in attrs.fields(kind):
        if not field.init:
            continue
        info = setting_info(field)
        default = default_of(field)
        variables = [variable_name(section, field.name), *([info.env] if info.env else [])]
        yield {
            "key": f"{section}.{field.name}",
            "help": info.help,
            "type": describe(types[field.name]),
            "required": field.default is attrs.NOTHING,
            "default": None if info.secret or default is attrs.NOTHING else _value(default),
            "environment": variables,
            "flag": info.flag,
            "secret": info.secret,
            "worker": info.worker,
        }


def _value(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else plain(value)


def render_plugin(facts: Mapping[str, Any]) -> str:
    """Return the facts of a plugin as text."""
    lines = [f"{facts['name']}  {facts['distribution']} {facts['version']}".rstrip()]
    if facts["problem"]:
        lines += ["", f"BROKEN: {facts['problem']}"]
    elif not facts["backends"]:
        lines += ["", "Provides nothing"]
    shown: list[Any] = []
    for backend in facts["backends"]:
        lines += ["", f"{backend['axis'].replace('_', ' ')} {backend['name']}: {backend['summary']}"]
        if "suffixes" in backend:
            lines.append(f"  file extensions: {', '.join(backend['suffixes'])}")
        if "traits" in backend:
            lines.append("  traits")
            lines += [f"    {name}: {_shown_trait(value)}" for name, value in backend["traits"].items()]
        settings = backend.get("settings", [])
        if settings and settings in shown:
            lines.append("  settings: as above")
        elif settings:
            shown.append(settings)
            lines.append("  settings")
            for setting in settings:
                lines += _setting_lines(setting)
    return "\n".join(lines)


def _setting_lines(setting: Mapping[str, Any]) -> list[str]:
    if setting["required"]:
        default = "required"
    elif setting["secret"]:
        default = "secret"
    else:
        default = "default none" if setting["default"] is None else f"default {setting['default']}"
    places = [*([setting["flag"]] if setting["flag"] else []), *setting["environment"]]
    secret = "secret: never shown or stored"
    notes = {
        (True, True): [
            f"{secret}; delivered to the workers by the compute backend, shipped, or set by the startup script"
        ],
        (True, False): [f"{secret}, never passed on"],
        (False, True): ["passed to the workers"],
        (False, False): [],
    }[setting["secret"], setting["worker"]]
    return [
        f"    {setting['key']}  ({setting['type']}; {default})",
        *([f"      {setting['help']}"] if setting["help"] else []),
        f"      also: {', '.join(places)}",
        *(f"      {note}" for note in notes),
    ]


def _shown_trait(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return format_duration(timedelta(seconds=value), precise=True) if isinstance(value, float) else str(value)
