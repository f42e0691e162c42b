"""Log lines of plugins, in the worker's format.

Invariants, each with a test:

1. A line that a plugin logs with structlog or `logging` appears once on stderr, in the worker's format, and not on
   stdout.
2. Neither library is imported for it: each is configured when a plugin imports it, unless the program has configured
   it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from cloud_tasks.worker.common.log import Log

__all__ = ["route_plugin_logs"]

_LEVELS = {"WARN": "WARNING", "EXCEPTION": "ERROR", "FATAL": "CRITICAL"}


def route_plugin_logs(log: Log, stack: ExitStack) -> None:
    """Write log lines of plugins to the worker's log, until ``stack`` is closed."""
    for name, route in (("structlog", _route_structlog), ("logging", _route_logging)):
        module = sys.modules.get(name)
        if module is not None:
            route(module, log, stack)
        else:
            finder = _ImportHook(name, partial(route, log=log, stack=stack))
            sys.meta_path.insert(0, finder)
            stack.callback(finder.remove)


class _ImportHook:
    """Import hook that calls a function with a module after its first import."""

    def __init__(self, name: str, on_import: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._on_import = on_import

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        self.remove()
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_call(module: ModuleType) -> None:
                execute(module)
                self._on_import(module)

            loader.exec_module = execute_and_call
        return spec


def _route_structlog(structlog: Any, log: Log, stack: ExitStack) -> None:
    if structlog.is_configured():
        return

    def write(_logger: Any, method: str, entry: dict[str, Any]) -> None:
        text, trace = str(entry.pop("event")), entry.pop("exception", None)
        facts = " ".join(f"{name}={value}" for name, value in entry.items())
        level = method.upper()
        log.write(_LEVELS.get(level, level), text + (f" [{facts}]" if facts else ""), block=trace or "")
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, write],
        wrapper_class=structlog.make_filtering_bound_logger(10 if log.verbose else 20),
        cache_logger_on_first_use=False,
    )
    stack.callback(structlog.reset_defaults)


def _route_logging(logging: Any, log: Log, stack: ExitStack) -> None:
    root = logging.getLogger()
    if root.handlers:
        return

    class Handler(logging.Handler):  # type: ignore[misc]
        def emit(self, record: Any) -> None:
            try:
                log.write(record.levelname, self.format(record))
            except Exception:
                self.handleError(record)

    handler = Handler()
    root.addHandler(handler)
    stack.callback(root.removeHandler, handler)
