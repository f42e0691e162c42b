"""The plugin registry: discovers plugins, isolates broken ones, resolves names to backends.

Invariants, each with a test:

1. A broken plugin (import error, unknown hook, wrong argument, a hook that raises or returns an invalid value) does not
   affect commands that do not need it; those that do get one error with plugin, distribution and cause.
2. A settings class with a type that cannot be passed to a worker as text makes its plugin broken.
3. Two plugins that register one name for one backend kind, or have one name, are an error, with both distributions,
   when it is used. An installed plugin with the name of core's own is broken.
4. There is no global registry: entry points create and pass it; tests register plugins in memory.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

import attrs
import pluggy

from cloud_tasks.booleans import BOOLEANS
from cloud_tasks.errors import InputError, PluginError
from cloud_tasks.plugin import (
    PROJECT_NAME,
    Backend,
    CommandDescriptor,
    ComputeBackend,
    EventSinkBackend,
    PricingBackend,
    QueueBackend,
    TaskSourceBackend,
)
from cloud_tasks.plugin import hooks as hook_specifications
from cloud_tasks.plugin_isolation import BrokenPluginError, isolated
from cloud_tasks.setting_values import check_settings_class

__all__ = ["BACKEND_KINDS", "EXTRAS", "REMOVED_SINKS", "Plugin", "Registry"]

DISABLE_VARIABLE = "CLOUD_TASKS_DISABLE_PLUGINS"
STRICT_VARIABLE = "CLOUD_TASKS_STRICT_PLUGINS"

BACKEND_KINDS: dict[str, type[Any]] = {
    "queue": QueueBackend,
    "compute": ComputeBackend,
    "pricing": PricingBackend,
    "event_sink": EventSinkBackend,
    "task_source": TaskSourceBackend,
    "command": CommandDescriptor,
}
"""The backend kinds with the class of their descriptors; the hook is ``cloud_tasks_register_<kind>``."""

REMOVED_SINKS = {"parquet": "use sqlite or jsonl, and for Parquet files: cloud-tasks export events --format parquet"}
"""Replacements of event sinks that were removed from core; a plugin may register the name."""

EXTRAS = {
    **{name: name for name in ("local", "gcp", "aws", "azure", "azure-servicebus", "slurm", "otel", "notify")},
    "webhook": "notify",
}
"""The extra of core that installs a backend, by name of the backend; equal to the name of its plugin."""

_B = TypeVar("_B", bound=Backend)


@attrs.frozen(kw_only=True)
class Plugin:
    """A discovered plugin: an entry point of an installed distribution, or a module registered in memory."""

    name: str
    distribution: str
    version: str
    """Empty if unknown."""
    registered: tuple[tuple[str, Any], ...] = ()
    """(backend kind, descriptor) pairs."""
    problem: str = ""
    """Why it is broken; empty if it is not."""

    def extras(self) -> frozenset[str]:
        """Return the extras of its distribution; one with the name of the plugin is what it needs everywhere."""
        try:
            return frozenset(importlib.metadata.metadata(self.distribution).get_all("Provides-Extra") or ())
        except importlib.metadata.PackageNotFoundError:
            return frozenset()


class Registry:
    """The plugins of this process, discovered on the first call that needs them.

    Args:
        builtins: Modules of core that register through the same hooks, as (name, module) pairs.
        only: Load the entry points of these names only (a worker loads those of its job); None for all.
    """

    def __init__(self, *, builtins: Iterable[tuple[str, object]] = (), only: Iterable[str] | None = None) -> None:
        self._builtins = tuple(builtins)
        self._only = None if only is None else frozenset(only)
        self._extra: list[tuple[str, object]] = []
        self._plugins: tuple[Plugin, ...] | None = None

    def register(self, name: str, module: object) -> None:
        """Add a plugin in memory, for tests and embedding programs."""
        self._extra.append((name, module))
        self._plugins = None

    def plugins(self) -> tuple[Plugin, ...]:
        """Return all plugins, including broken ones.

        Raises:
            PluginError: A plugin is broken and `STRICT_VARIABLE` is set.
        """
        if self._plugins is None:
            self._plugins = tuple(self._discover())
        broken = [plugin for plugin in self._plugins if plugin.problem]
        strict = os.environ.get(STRICT_VARIABLE, "").strip()
        if broken and BOOLEANS.get(strict.lower(), bool(strict)):
            raise PluginError(_describe(broken[0]), hint=f"fix or uninstall it, or unset {STRICT_VARIABLE}")
        return self._plugins

    def problems(self) -> tuple[str, ...]:
        """Return one line for each broken plugin."""
        return tuple(_describe(plugin) for plugin in self.plugins() if plugin.problem)

    def all(self, kind: str) -> tuple[tuple[Plugin, Any], ...]:
        """Return every descriptor of a backend kind, with its plugin."""
        return tuple(
            (plugin, descriptor)
            for plugin in self.plugins()
            for registered_kind, descriptor in plugin.registered
            if registered_kind == kind
        )

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of a backend kind that users may write, sorted."""
        return tuple(sorted({descriptor.name for _, descriptor in self.all(kind)}))

    def queue(self, name: str) -> QueueBackend:
        """Return the queue backend of this name.

        Raises:
            InputError: No plugin registers it.
            PluginError: Two plugins register it, or its plugin is broken.
        """
        return self._resolve("queue", name, QueueBackend)

    def compute(self, name: str) -> ComputeBackend:
        """Return the compute backend of this name; errors as for `queue`."""
        return self._resolve("compute", name, ComputeBackend)

    def pricing(self, name: str) -> PricingBackend:
        """Return the pricing backend of this name; errors as for `queue`."""
        return self._resolve("pricing", name, PricingBackend)

    def event_sink(self, name: str) -> EventSinkBackend:
        """Return the event sink of this name; errors as for `queue`."""
        return self._resolve("event_sink", name, EventSinkBackend)

    def task_source(self, name: str) -> TaskSourceBackend:
        """Return the task source of this name; errors as for `queue`."""
        return self._resolve("task_source", name, TaskSourceBackend)

    def _resolve(self, kind: str, name: str, descriptor_class: type[_B]) -> _B:
        noun = kind.replace("_", " ") if "_" in kind else f"{kind} backend"
        found = [(plugin, item) for plugin, item in self.all(kind) if item.name == name]
        if len(found) > 1:
            owners = " and ".join(f"{plugin.name} ({plugin.distribution})" for plugin, _ in found)
            raise PluginError(f'two plugins register the {noun} "{name}": {owners}', hint="uninstall one of them")
        if found:
            self._check_unique(found[0][0])
            return cast(_B, found[0][1])
        for plugin in self.plugins():
            if plugin.name in (name, EXTRAS.get(name)) and plugin.problem:
                raise PluginError(_describe(plugin), hint="fix or reinstall it")
        extra = EXTRAS.get(name)
        if extra is not None and extra in _disabled():
            raise InputError(f'plugin "{extra}" is disabled', hint=f"remove it from {DISABLE_VARIABLE}")
        if extra is not None and not any(plugin.name == extra for plugin in self.plugins()):
            hint = f"install it with: pip install 'cloud-tasks[{extra}]'"
            raise InputError(f'plugin "{extra}" is not installed', hint=hint)
        raise InputError(f'unknown {noun} "{name}"', hint=self._suggested_fix(kind, name))

    def _check_unique(self, plugin: Plugin) -> None:
        """Raise `PluginError` if two working plugins have the name of this one."""
        twins = [each for each in self.plugins() if each.name == plugin.name and not each.problem]
        if len(twins) > 1:
            owners = " and ".join(f"{each.distribution} {each.version}".strip() for each in twins)
            raise PluginError(f'two plugins are named "{plugin.name}": {owners}', hint="uninstall one of them")

    def _suggested_fix(self, kind: str, name: str) -> str:
        if kind == "event_sink" and name in REMOVED_SINKS:
            return REMOVED_SINKS[name]
        if extra := EXTRAS.get(name):
            owned = [descriptor.name for plugin, descriptor in self.all(kind) if plugin.name == extra]
            return f'the plugin "{extra}" registers {", ".join(owned) or "none"}'
        names = self.names(kind)
        close = difflib.get_close_matches(name, names, n=1)
        if close:
            return f'did you mean "{close[0]}"?'
        return f"installed: {', '.join(names)}" if names else "install a plugin that provides one"

    def _discover(self) -> Iterator[Plugin]:
        disabled = _disabled()
        for name, module in self._builtins:
            yield _inspect(name, "cloud-tasks", _version("cloud-tasks"), module)
        for name, module in self._extra:
            if name not in disabled:
                yield _inspect(name, "in memory", "", module)
        for entry_point in sorted(importlib.metadata.entry_points(group=PROJECT_NAME), key=lambda e: e.name):
            if entry_point.name in disabled or (self._only is not None and entry_point.name not in self._only):
                continue
            distribution = entry_point.dist.name if entry_point.dist is not None else "(unknown)"
            version = entry_point.dist.version if entry_point.dist is not None else ""
            found = Plugin(name=entry_point.name, distribution=distribution, version=version)
            if entry_point.name in {name for name, _ in self._builtins}:
                yield attrs.evolve(found, problem=f'the name "{entry_point.name}" belongs to cloud-tasks')
                continue
            try:
                with isolated("import"):
                    module = entry_point.load()
            except BrokenPluginError as error:
                yield attrs.evolve(found, problem=str(error))
            else:
                yield _inspect(entry_point.name, distribution, version, module)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _disabled() -> set[str]:
    return {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()}


def _describe(plugin: Plugin) -> str:
    origin = f"{plugin.distribution} {plugin.version}".strip()
    return f'plugin "{plugin.name}" ({origin}) is broken: {plugin.problem}'


def _inspect(name: str, distribution: str, version: str, module: object) -> Plugin:
    """Register a plugin with its own plugin manager, so that an error affects no other, and collect its descriptors."""
    found = Plugin(name=name, distribution=distribution, version=version)
    manager = pluggy.PluginManager(PROJECT_NAME)
    manager.add_hookspecs(hook_specifications)
    registered: list[tuple[str, Any]] = []
    try:
        with isolated("registration"):
            manager.register(module, name=name)
            manager.check_pending()
            for kind, descriptor_class in BACKEND_KINDS.items():
                for descriptors in getattr(manager.hook, f"cloud_tasks_register_{kind}")():
                    for descriptor in descriptors:
                        if not isinstance(descriptor, descriptor_class):
                            given, wanted = type(descriptor).__name__, descriptor_class.__name__
                            raise TypeError(f"the {kind} hook returned a {given}, not a {wanted}")
                        if isinstance(descriptor, Backend):
                            check_settings_class(descriptor.settings)
                        registered.append((kind, descriptor))
    except BrokenPluginError as error:
        return attrs.evolve(found, problem=str(error))
    return attrs.evolve(found, registered=tuple(registered))
