"""Logging of the command line to stderr, as ``2025-07-08 11:19:22.944 INFO - message`` or as JSON lines.

Invariants, each with a test:

1. A log that cannot be written (closed terminal, broken pipe) stops nothing.
2. Text from outside adds no line to the log and no control character to the terminal.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any, TextIO, cast

import structlog

from cloud_tasks.escape import terminal_line, terminal_text, without_credentials

__all__ = ["configure_logging", "write_text"]


class _CurrentStderr:
    """The present ``sys.stderr``, which the live view replaces to stay below the log."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def write_text(text: str) -> None:
    """Write lines without a log prefix to the log."""
    stderr = _CurrentStderr()
    stderr.write(f"{terminal_text(text)}\n")
    stderr.flush()


def _text(_logger: Any, method: str, entry: MutableMapping[str, Any]) -> str:
    moment = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    message = terminal_line(str(entry.pop("event")))
    level = {"warn": "WARNING"}.get(method, method.upper())
    trace = entry.pop("exception", None)
    facts = terminal_line(" ".join(f"{name}={value}" for name, value in entry.items()))
    line = f"{moment} {level} - {message}" + (f" [{facts}]" if facts else "")
    return f"{line}\n{terminal_text(without_credentials(trace))}" if trace else line


def _without_credentials(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in entry.items():
        if isinstance(value, str):
            entry[name] = without_credentials(value)
    return entry


def configure_logging(*, log_format: str = "text", verbosity: int = 0) -> None:
    """Configure structlog. Called by entry points only.

    Args:
        log_format: ``text`` or ``json``.
        verbosity: 0 for INFO and above, 1 or more for DEBUG.
    """
    processors: list[Any] = [structlog.processors.format_exc_info]
    if log_format == "json":
        processors = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_credentials,
            structlog.processors.JSONRenderer(),
        ]
    else:
        processors.append(_text)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbosity else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, _CurrentStderr())),
        cache_logger_on_first_use=False,
    )
