"""What ``doctor`` checks besides the providers: this machine, the plugins, the database's folder, the clock."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cloud_tasks
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.plugin import Finding
from cloud_tasks.store import Store

__all__ = ["check_core"]

_OLDEST_PYTHON = (3, 11)
_BUILT = datetime(2025, 1, 1, tzinfo=UTC)
"""Before the first release: a clock that shows an earlier time is wrong."""
_SKEW = 5.0
"""Seconds by which this machine and a file system may differ; requests signed with a wrong time are refused at more."""


def check_core(config: JobConfig) -> Iterator[Finding]:
    """What was found out about this machine."""
    yield _python()
    yield from _plugins(config)
    folder, database = _place(config)
    yield from _folder(folder)
    if database is not None and database.exists():
        yield _database(database)


def _python() -> Finding:
    found = f"Python {platform.python_version()}, cloud-tasks {cloud_tasks.__version__}"
    if sys.version_info[:2] >= _OLDEST_PYTHON:
        return Finding(ok=True, subject="Python", message=found)
    needed = ".".join(map(str, _OLDEST_PYTHON))
    return Finding(ok=False, subject="Python", message=found, remedy=f"use Python {needed} or later")


def _plugins(config: JobConfig) -> Iterator[Finding]:
    plugins = config.registry.plugins()
    for plugin in plugins:
        if plugin.problem:
            message = f"{plugin.name} ({plugin.distribution} {plugin.version}) is broken: {plugin.problem}"
            remedy = f"pip install --force-reinstall {plugin.distribution}, or uninstall it"
            yield Finding(ok=False, subject="plugins", message=message, remedy=remedy)
    usable = ", ".join(plugin.name for plugin in plugins if not plugin.problem)
    yield Finding(ok=True, subject="plugins", message=f"usable: {usable}")


def _place(config: JobConfig) -> tuple[Path, Path | None]:
    """Where a job's database would be; the current folder where no job is named."""
    try:
        database = database_of(config)
    except InputError:
        return Path.cwd(), None
    return database.absolute().parent, database


def _folder(folder: Path) -> Iterator[Finding]:
    """Whether a database could be made there, and whether its file system has the same time as this machine."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".cloud-tasks-doctor-", dir=folder) as probe:
            probe.write(b"x")
            probe.flush()
            there, here = Path(probe.name).stat().st_mtime, time.time()
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror or error}"
        yield Finding(
            ok=False, subject="database folder", message=message, remedy="choose another place with --db-file"
        )
        there = here = time.time()
    else:
        yield Finding(ok=True, subject="database folder", message=f"{folder} can be written")
    yield _clock(here, there)


def _clock(here: float, there: float) -> Finding:
    now = datetime.fromtimestamp(here, UTC)
    remedy = "set the clock, e.g. with: sudo timedatectl set-ntp true"
    if now < _BUILT:
        return Finding(ok=False, subject="clock", message=f"it shows {now:%Y-%m-%d %H:%M} UTC", remedy=remedy)
    if abs(here - there) > _SKEW:
        message = f"it differs by {abs(here - there):.0f} s from that of the database's file system"
        return Finding(ok=False, subject="clock", message=message, remedy=remedy)
    return Finding(ok=True, subject="clock", message=f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _database(database: Path) -> Finding:
    try:
        with Store.open(database, read_only=True) as store:
            summary = store.summary()
    except StoreError as error:
        return Finding(ok=False, subject="database", message=error.message, remedy=error.hint)
    done = f"{summary.finished_tasks} of {summary.total} tasks have ended"
    return Finding(ok=True, subject="database", message=f"{database}: job {summary.job.job_id}, {done}")
