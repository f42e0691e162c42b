"""A provider whose instances download what they run, and configurations of jobs that are shipped."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import attrs
from memory_commands import MemoryCommands

from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.plugin import Download, DownloadContext, hookimpl
from cloud_tasks.testing import MemoryProvider

_SIGNATURES = itertools.count()


def signed(settings: object, context: DownloadContext) -> Download:
    """Return an address that is signed anew each time."""
    return Download(url=f"https://store.example/{context.url.partition('://')[2]}?signature={next(_SIGNATURES)}")


class Remote:
    """The compute plugin ``remote``."""

    @hookimpl
    def cloud_tasks_register_compute(self) -> Any:
        return [attrs.evolve(MemoryProvider().compute, name="remote", download=signed, staging_schemes=("mem",))]


def shipped_job(folder: Path, program: str = "", **run: Any) -> JobConfig:
    """Return the configuration of a job with the program ``work.py``; options by dotted key."""
    (folder / "work.py").write_text(program)
    (folder / "config.yml").write_text("run: {}\n")
    registry = MemoryCommands().registry
    registry.register("remote", Remote())
    options = {"provider": "memory", "compute": "remote", "run.program": "work.py", **run}
    return load_config(registry, file=folder / "config.yml", options=options, environ={})
