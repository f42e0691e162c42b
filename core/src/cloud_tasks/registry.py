"""Finds plugins, isolates broken ones, resolves a name to a backend.

Invariants, each with a test:

1. A broken plugin (import error, unknown hook, wrong argument, a hook that raises or returns rubbish) never breaks a
   command that does not need it; a command that needs it gets one error naming plugin, distribution and cause.
2. A settings class with a type that cannot be passed to a worker as text breaks its plugin when that is loaded.
3. Two plugins that register one name on one axis are an error that names both distributions, when that name is used.
4. There is no global registry: it is built by the entry point and passed on; tests register in memory.
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
from cloud_tasks.plugin.setting_kinds import check_settings_class

__all__ = ["AXES", "EXTRAS", "REMOVED_SINKS", "Plugin", "Registry"]

DISABLE_VARIABLE = "CLOUD_TASKS_DISABLE_PLUGINS"
STRICT_VARIABLE = "CLOUD_TASKS_STRICT_PLUGINS"

AXES: dict[str, type[Any]] = {
    "queue": QueueBackend,
    "compute": ComputeBackend,
    "pricing": PricingBackend,
    "event_sink": EventSinkBackend,
    "task_source": TaskSourceBackend,
    "command": CommandDescriptor,
}
"""Each axis with the class of its descriptors; its hook is ``cloud_tasks_register_<axis>``."""

REMOVED_SINKS = {"parquet": "use sqlite or jsonl, and for Parquet files: cloud-tasks export events --format parquet"}
"""What to use instead of an event sink that core no longer has; a plugin may register the name."""

EXTRAS = {**{name: name for name in ("local", "gcp", "aws", "azure", "otel", "notify")}, "webhook": "notify"}
"""The extra of core that installs a backend, by the backend's name; also the name of its plugin."""

_B = TypeVar("_B", bound=Backend)


@attrs.frozen(kw_only=True)
class Plugin:
    """One plugin as found: an entry point of an installed distribution, or a module registered in memory."""

    name: str
    distribution: str
    version: str
    registered: tuple[tuple[str, Any], ...] = ()
    """(axis, descriptor) pairs."""
    problem: str = ""
    """Why it cannot be used; empty when it can."""


class Registry:
    """The plugins of this process, found lazily: nothing is imported before a name is asked for.

    Args:
        builtins: Modules of core that register through the same hooks, as (name, module) pairs.
        only: Load only the entry points of these names (a worker names those its job uses); None: all.
    """

    def __init__(self, *, builtins: Iterable[tuple[str, object]] = (), only: Iterable[str] | None = None) -> None:
        self._builtins = tuple(builtins)
        self._only = None if only is None else frozenset(only)
        self._extra: list[tuple[str, object]] = []
        self._plugins: tuple[Plugin, ...] | None = None

    def register(self, name: str, module: object) -> None:
        """Add a plugin that is in memory, as a test or an embedding program does."""
        self._extra.append((name, module))
        self._plugins = None

    def plugins(self) -> tuple[Plugin, ...]:
        """All plugins, broken ones included. Never raises because of a plugin, unless `STRICT_VARIABLE` is set."""
        if self._plugins is None:
            self._plugins = tuple(self._discover())
        broken = [plugin for plugin in self._plugins if plugin.problem]
        strict = os.environ.get(STRICT_VARIABLE, "").strip()
        if broken and BOOLEANS.get(strict.lower(), bool(strict)):
            raise PluginError(_describe(broken[0]), hint=f"mend or remove it, or unset {STRICT_VARIABLE}")
        return self._plugins

    def problems(self) -> tuple[str, ...]:
        """One line for each broken plugin."""
        return tuple(_describe(plugin) for plugin in self.plugins() if plugin.problem)

    def all(self, axis: str) -> tuple[tuple[Plugin, Any], ...]:
        """Every descriptor of an axis, with the plugin that brought it."""
        return tuple(
            (plugin, descriptor)
            for plugin in self.plugins()
            for registered_axis, descriptor in plugin.registered
            if registered_axis == axis
        )

    def names(self, axis: str) -> tuple[str, ...]:
        """What users may write on an axis, sorted."""
        return tuple(sorted({descriptor.name for _, descriptor in self.all(axis)}))

    def queue(self, name: str) -> QueueBackend:
        return self._resolve("queue", name, QueueBackend)

    def compute(self, name: str) -> ComputeBackend:
        return self._resolve("compute", name, ComputeBackend)

    def pricing(self, name: str) -> PricingBackend:
        return self._resolve("pricing", name, PricingBackend)

    def event_sink(self, name: str) -> EventSinkBackend:
        return self._resolve("event_sink", name, EventSinkBackend)

    def task_source(self, name: str) -> TaskSourceBackend:
        return self._resolve("task_source", name, TaskSourceBackend)

    def _resolve(self, axis: str, name: str, kind: type[_B]) -> _B:
        found = [(plugin, item) for plugin, item in self.all(axis) if item.name == name]
        if len(found) > 1:
            owners = " and ".join(f"{plugin.name} ({plugin.distribution})" for plugin, _ in found)
            raise PluginError(f'two plugins register the {axis} "{name}": {owners}', hint="uninstall one of them")
        if found:
            return cast(_B, found[0][1])
        for plugin in self.plugins():
            if plugin.name in (name, EXTRAS.get(name)) and plugin.problem:
                raise PluginError(_describe(plugin), hint="mend or reinstall it")
        raise InputError(f'there is no {axis.replace("_", " ")} "{name}"', hint=self._advice(axis, name))

    def _advice(self, axis: str, name: str) -> str:
        if axis == "event_sink" and name in REMOVED_SINKS:
            return REMOVED_SINKS[name]
        if extra := EXTRAS.get(name):
            owned = [descriptor.name for plugin, descriptor in self.all(axis) if plugin.name == extra]
            registered = f'the plugin "{extra}" registers {", ".join(owned)}'
            return registered if owned else f"install it with: pip install 'cloud-tasks[{extra}]'"
        names = self.names(axis)
        close = difflib.get_close_matches(name, names, n=1)
        if close:
            return f'did you mean "{close[0]}"?'
        return f"installed: {', '.join(names)}" if names else "no plugin provides any; install one"

    def _discover(self) -> Iterator[Plugin]:
        disabled = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()}
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
            try:
                module = entry_point.load()
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # a plugin may even call sys.exit() at import
                yield Plugin(
                    name=entry_point.name, distribution=distribution, version=version, problem=_cause("import", error)
                )
            else:
                yield _inspect(entry_point.name, distribution, version, module)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cause(stage: str, error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{stage} failed: {type(error).__name__}: {text}"


def _describe(plugin: Plugin) -> str:
    origin = f"{plugin.distribution} {plugin.version}".strip()
    return f'plugin "{plugin.name}" ({origin}) is broken: {plugin.problem}'


def _inspect(name: str, distribution: str, version: str, module: object) -> Plugin:
    """Register one plugin with a manager of its own, so that its faults stay its own, and ask it what it has."""
    found = Plugin(name=name, distribution=distribution, version=version)
    manager = pluggy.PluginManager(PROJECT_NAME)
    manager.add_hookspecs(hook_specifications)
    registered: list[tuple[str, Any]] = []
    try:
        manager.register(module, name=name)
        manager.check_pending()
        for axis, kind in AXES.items():
            for answer in getattr(manager.hook, f"cloud_tasks_register_{axis}")():
                for descriptor in answer:
                    if not isinstance(descriptor, kind):
                        raise TypeError(f"the {axis} hook returned {descriptor!r}, not a {kind.__name__}")
                    if isinstance(descriptor, Backend):
                        check_settings_class(descriptor.settings)
                    registered.append((axis, descriptor))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        return attrs.evolve(found, problem=_cause("registration", error))
    return attrs.evolve(found, registered=tuple(registered))
