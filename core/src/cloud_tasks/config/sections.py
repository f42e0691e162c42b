"""Sections and keys of the configuration: of core and of the installed plugins."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from cloud_tasks.config.checks import SecretSources
from cloud_tasks.config.run_settings import RunSettings
from cloud_tasks.config.values import show
from cloud_tasks.plugin import SettingInfo, setting_info
from cloud_tasks.registry import Registry
from cloud_tasks.setting_values import field_types

__all__ = [
    "PROVIDER_KINDS",
    "TOP_LEVEL",
    "Key",
    "Section",
    "advice",
    "default_of",
    "find_sections",
    "run_section",
    "variable_name",
]

TOP_LEVEL: Mapping[str, str] = {
    "provider": "Name of the plugin for queue, compute and pricing, as far as it has them",
    "queue": "Name of the queue plugin (default: the provider)",
    "compute": "Name of the compute plugin (default: the provider)",
    "pricing": "Name of the pricing plugin (default: that of `compute`, else the provider)",
    "event_sinks": "Names of event sinks, which receive a copy of every event",
    "task_source": "Source of the tasks: a file, a URL, module:function, grid:name=values, or source:location",
}
"""Keys beside the sections, with one line of help."""

PROVIDER_KINDS = ("queue", "compute", "pricing")
"""Backend kinds that ``provider`` selects."""
_OTHER_KINDS = ("event_sink", "task_source")
_OFFICIAL = ("local", "gcp", "aws", "azure", "azure-servicebus")
_OFFICIAL_SINKS = ("otel", "webhook", "notify")
"""Sinks with a distribution of their own."""


@attrs.frozen(kw_only=True)
class Key:
    """One key of a section, possibly shared by several settings classes of one plugin."""

    name: str
    owners: tuple[tuple[type[Any], attrs.Attribute[Any]], ...]

    @property
    def info(self) -> SettingInfo:
        return setting_info(self.owners[0][1])

    @property
    def default_text(self) -> str:
        """The default on one line, durations with units; empty if there is none or it is a secret."""
        default = default_of(self.owners[0][1])
        return "" if self.secret or default in (None, (), {}, attrs.NOTHING) else show(default, self.kind)

    @property
    def secret(self) -> bool:
        return any(setting_info(field).secret for _, field in self.owners)

    @property
    def is_hidden(self) -> bool:
        """Whether no message shows a value: a secret, or what may be one by mistake."""
        return self.secret or any(isinstance(field.validator, SecretSources) for _, field in self.owners)

    @property
    def kind(self) -> Any:
        """Type of the first class's field."""
        cls, field = self.owners[0]
        return field_types(cls)[field.name]


@attrs.frozen(kw_only=True)
class Section:
    """One section of the file."""

    name: str
    keys: Mapping[str, Key]
    """Own keys of the plugin."""
    takes_run_keys: bool = False
    """Whether keys of ``run`` are accepted too, as for providers."""
    is_open: bool = False
    """Whether any key is accepted: the plugin is not installed, or broken."""


def find_sections(registry: Registry) -> dict[str, Section]:
    """Return the sections of all plugins, by name, without ``run``."""
    classes: dict[str, list[type[Any]]] = {}
    providers: set[str] = set()
    for kind in (*PROVIDER_KINDS, *_OTHER_KINDS):
        for _, descriptor in registry.all(kind):
            known = classes.setdefault(descriptor.name, [])
            if attrs.has(descriptor.settings) and descriptor.settings not in known:
                known.append(descriptor.settings)
            if kind in PROVIDER_KINDS:
                providers.add(descriptor.name)
    found = {
        name: Section(name=name, keys=_keys(known), takes_run_keys=name in providers) for name, known in classes.items()
    }
    absent = (*_OFFICIAL, *(plugin.name for plugin in registry.plugins() if plugin.problem))
    for name in absent:
        found.setdefault(name, Section(name=name, keys={}, takes_run_keys=True, is_open=True))
    for name in _OFFICIAL_SINKS:
        found.setdefault(name, Section(name=name, keys={}, is_open=True))
    return {name: section for name, section in found.items() if name not in (*TOP_LEVEL, "run")}


def run_section() -> Section:
    """Return the section ``run``."""
    return Section(name="run", keys=_keys([RunSettings]))


def _keys(classes: Iterable[type[Any]]) -> dict[str, Key]:
    owners: dict[str, list[tuple[type[Any], attrs.Attribute[Any]]]] = {}
    for cls in classes:
        for field in attrs.fields(cls):
            if field.init:
                owners.setdefault(field.name, []).append((cls, field))
    return {name: Key(name=name, owners=tuple(found)) for name, found in owners.items()}


def default_of(field: attrs.Attribute[Any]) -> Any:
    """Return the default of a field; `attrs.NOTHING` if it has none or depends on its object."""
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class that attrs declares as a function
        return attrs.NOTHING if default.takes_self else default.factory()
    return default


def variable_name(section: str, key: str = "") -> str:
    """Return the environment variable of a key: ``CLOUD_TASKS_<SECTION>_<KEY>``."""
    return "_".join(["CLOUD_TASKS", *(part.upper().replace("-", "_") for part in (section, key) if part)])


def advice(name: str, known: Iterable[str]) -> str:
    """Return a suggestion for a misspelt name; empty if no known name is similar."""
    near = difflib.get_close_matches(name.replace("-", "_").lower(), sorted(known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""
