"""Checks of ``doctor`` besides those of the providers: this machine, the plugins, the database folder, the clock."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cloud_tasks
from cloud_tasks.cli.options.database import database_path
from cloud_tasks.config import JobConfig
from cloud_tasks.errors import InputError, StoreError
from cloud_tasks.plugin import Finding
from cloud_tasks.quantities import format_duration
from cloud_tasks.store import Store

__all__ = ["check_core"]

_MINIMUM_PYTHON = (3, 11)
_RELEASED = datetime(2025, 1, 1, tzinfo=UTC)
"""Before the first release: an earlier clock is wrong."""
_MAX_SKEW = timedelta(seconds=5)
"""Maximum difference between the clocks of this machine and a file system; providers reject requests above it."""


def check_core(config: JobConfig) -> Iterator[Finding]:
    """Yield the findings about this machine."""
    yield _python()
    yield from _plugins(config)
    folder, database = _location(config)
    yield from _folder(folder)
    if database is not None and database.exists():
        yield _database(database)


def _python() -> Finding:
    found = f"Python {platform.python_version()}, cloud-tasks {cloud_tasks.__version__}"
    if sys.version_info[:2] >= _MINIMUM_PYTHON:
        return Finding(ok=True, subject="Python", message=found)
    needed = ".".join(map(str, _MINIMUM_PYTHON))
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


def _location(config: JobConfig) -> tuple[Path, Path | None]:
    """Return folder and path of the job database; the folder of the configuration alone where no job is given."""
    try:
        database = database_path(config)
    except InputError:
        return config.base_dir, None
    return database.absolute().parent, database


def _folder(folder: Path) -> Iterator[Finding]:
    """Check that the folder is writable and that its file system has the time of this machine."""
    subject = "database folder"
    try:
        with tempfile.NamedTemporaryFile(prefix=".cloud-tasks-doctor-", dir=folder) as probe:
            probe.write(b"x")
            probe.flush()
            there, here = Path(probe.name).stat().st_mtime, time.time()
    except OSError as error:
        message = f"{folder} is not writable: {error.strerror or error}"
        yield Finding(ok=False, subject=subject, message=message, remedy="choose another location with --db-file")
        there = here = time.time()
    else:
        yield Finding(ok=True, subject=subject, message=f"{folder} is writable")
    yield _clock(here, there)


def _clock(here: float, there: float) -> Finding:
    now = datetime.fromtimestamp(here, UTC)
    remedy = "set the clock, e.g. with: sudo timedatectl set-ntp true"
    if now < _RELEASED:
        return Finding(ok=False, subject="clock", message=f"wrong time: {now:%Y-%m-%d %H:%M} UTC", remedy=remedy)
    skew = timedelta(seconds=abs(here - there))
    if skew > _MAX_SKEW:
        message = f"differs by {format_duration(skew)} from the clock of the database's file system"
        return Finding(ok=False, subject="clock", message=message, remedy=remedy)
    return Finding(ok=True, subject="clock", message=f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _database(database: Path) -> Finding:
    try:
        with Store.open(database, read_only=True) as store:
            summary = store.summary()
    except StoreError as error:
        return Finding(ok=False, subject="database", message=error.message, remedy=error.hint)
    done = f"{summary.finished_tasks:,} of {summary.total:,} tasks finished"
    return Finding(ok=True, subject="database", message=f"{database}: job {summary.job.job_id}, {done}")
