"""Open the task source that a user named or a program passed.

Invariant, with a test: the former name of a source still works, with one warning per process on standard error.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_tasks.builtin.sources.descriptors import task_source_descriptors
from cloud_tasks.builtin.sources.foreign import ForeignSource, open_foreign
from cloud_tasks.errors import CloudTasksError, InputError
from cloud_tasks.escape import without_credentials
from cloud_tasks.plugin import TaskSource, TaskSourceBackend, TaskSourceContext
from cloud_tasks.sanitize import clean_text
from cloud_tasks.taskfile import COMPRESSIONS, STANDARD_INPUT, is_url

if TYPE_CHECKING:
    from cloud_tasks.registry import Registry

__all__ = ["is_builtin_source", "location_of_source", "open_task_source"]

_FILES = ("json", "jsonl", "yaml")
"""Built-in sources that read a file."""
_RENAMED = {"sweep": "grid"}
"""Current names of sources by their former names. A plugin may register a former name."""


def open_task_source(
    registry: Registry | None,
    spec: Any,
    *,
    base_dir: Path | None = None,
    settings_for: Callable[[str, str], Any] | None = None,
) -> AbstractContextManager[TaskSource]:
    """Return the task source that ``spec`` denotes.

    A text or path is, in this order: ``-``, JSON or JSON Lines from standard input; ``name:location`` or ``name`` of a
    registered source; ``module:function`` or ``path/to/file.py:function``; a file or URL whose suffix selects the
    source. Anything else is a function that returns tasks, an iterable of tasks, or a `TaskSource`.

    Args:
        registry: None: only the built-in sources.
        base_dir: Base of relative paths; None: the current directory.
        settings_for: Returns the settings of a (backend kind, name); None: default settings.

    Raises:
        InputError: ``spec`` denotes no source. Raised on entering or on iterating.
    """
    if isinstance(spec, (str, os.PathLike)) or _is_path_like(spec):
        text = str(spec) if not isinstance(spec, os.PathLike) else os.fspath(spec)
        backend, location = _choose(registry, str(text), base_dir or Path.cwd())
        settings = settings_for("task_source", backend.name) if settings_for is not None else backend.settings()
        context = TaskSourceContext(location=location, base_dir=base_dir or Path.cwd())
        plugin = _plugin_of(registry, backend)
        if plugin is None:
            return backend.open(settings, context)
        author = f'the task source "{backend.name}" of plugin "{plugin}"'
        where = without_credentials(clean_text(str(text)))
        return open_foreign(lambda: backend.open(settings, context), author, where)
    return _open_object(spec)


def location_of_source(registry: Registry | None, spec: str, *, base_dir: Path) -> str:
    """Return the location that a text denotes, the same for each name of a file; a URL is returned as it is."""
    with contextlib.suppress(CloudTasksError):
        spec = _choose(registry, spec, base_dir)[1]
    if is_url(spec) or spec == STANDARD_INPUT or "\0" in spec:
        return spec
    return os.path.realpath(base_dir / os.path.expanduser(spec))


def is_builtin_source(spec: Any) -> bool:
    """Return whether what a program was given needs no plugin: no text, a built-in source's name, or its suffix."""
    if not isinstance(spec, (str, os.PathLike)) and not _is_path_like(spec):
        return True
    text = os.fspath(spec) if isinstance(spec, os.PathLike) else str(spec)
    try:
        backend, location = _choose(None, str(text), Path.cwd())
    except InputError:
        return False
    # The name of a plugin's source before a colon comes before a module.
    return backend.name != "factory" or location != text or location.partition(":")[0].endswith(".py")


def _is_path_like(spec: Any) -> bool:
    """Return whether it is a path of a cloud file library: not an `os.PathLike`, but with the same members."""
    return not callable(spec) and hasattr(spec, "suffix") and hasattr(spec, "open")


@contextmanager
def _open_object(spec: Any) -> Iterator[TaskSource]:
    from cloud_tasks.builtin.sources.factory import CallableSource, IterableSource

    if hasattr(spec, "expected_length") and hasattr(spec, "__iter__"):
        where = clean_text(str(getattr(spec, "where", ""))) or "the given tasks"
        is_own = type(spec).__module__.startswith("cloud_tasks.")
        yield spec if is_own else ForeignSource(spec, "the task source", where)
    elif callable(spec):
        yield CallableSource(spec)
    elif hasattr(spec, "__iter__") and not isinstance(spec, (bytes, dict)):
        yield IterableSource(spec)
    else:
        raise InputError(
            f"a value of type {type(spec).__name__} is not a task source",
            hint="pass a path, a function that yields tasks, or an iterable of tasks",
        )


def _plugin_of(registry: Registry | None, backend: TaskSourceBackend) -> str | None:
    """Return the name of the plugin that has a task source; None for one of core."""
    found = () if registry is None else registry.all("task_source")
    owners = [plugin for plugin, descriptor in found if descriptor is backend]
    return None if not owners or owners[0].distribution == "cloud-tasks" else owners[0].name


def _backends(registry: Registry | None) -> list[TaskSourceBackend]:
    if registry is None:
        return list(task_source_descriptors())
    return [descriptor for _, descriptor in registry.all("task_source")]


def _choose(registry: Registry | None, spec: str, base_dir: Path) -> tuple[TaskSourceBackend, str]:
    if not spec.strip():
        raise InputError("no task source given", hint="add --task-file FILE")
    backends = _backends(registry)
    if spec == STANDARD_INPUT:
        return _named(registry, backends, "json"), spec
    name, separator, location = spec.partition(":")
    registered = {backend.name for backend in backends}
    if separator and name in _RENAMED and name not in registered:
        _warn_once(name, _RENAMED[name])
        name = _RENAMED[name]
    if name in registered and not location.startswith("//") and (separator or not (base_dir / spec).exists()):
        backend = _named(registry, backends, name)
        if name in _FILES and not location.strip():
            raise InputError("no file given", where=spec, hint=f"write {name}:FILE")
        return backend, location
    if separator and not is_url(spec) and not (base_dir / spec).is_file() and _is_factory(spec):
        return _named(registry, backends, "factory"), spec
    return _by_suffix(backends, spec, is_file=(base_dir / spec).is_file()), spec


@functools.cache
def _warn_once(former: str, current: str) -> None:
    import structlog

    message = (
        f'task source "{former}:" was renamed to "{current}:"; the former name will be an error in the next release'
    )
    if structlog.is_configured():
        structlog.get_logger().warning(message)
    else:
        # A worker, or another program: its standard output is its own.
        print(f"Warning: {message}", file=sys.stderr)


def _is_factory(spec: str) -> bool:
    from cloud_tasks.builtin.sources.factory import looks_like_factory

    return looks_like_factory(spec)


def _named(registry: Registry | None, backends: list[TaskSourceBackend], name: str) -> TaskSourceBackend:
    if registry is not None:
        return registry.task_source(name)
    return next(backend for backend in backends if backend.name == name)


def _by_suffix(backends: list[TaskSourceBackend], spec: str, *, is_file: bool) -> TaskSourceBackend:
    path = spec.lower().split("?", 1)[0] if "://" in spec else spec.lower()
    for compression in COMPRESSIONS:
        path = path.removesuffix(compression)
    found = [backend for backend in backends if backend.suffixes and path.endswith(backend.suffixes)]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(sorted(backend.name for backend in found))
        raise InputError(
            f"several task sources read this suffix: {names}", where=spec, hint=f"write {found[0].name}:{spec}"
        )
    name, separator, _ = spec.partition(":")
    if separator and not is_file and not is_url(spec) and re.fullmatch(r"[a-z][-a-z0-9]*", name):
        raise InputError(
            f'no task source "{name}" is installed',
            where=spec,
            hint=f"installed: {', '.join(sorted(backend.name for backend in backends))}",
        )
    suffixes = ", ".join(sorted(suffix for backend in backends for suffix in backend.suffixes))
    raise InputError(
        "cannot determine the format from the name",
        where=spec,
        hint=f"known suffixes: {suffixes}; or write json:{spec}",
    )
