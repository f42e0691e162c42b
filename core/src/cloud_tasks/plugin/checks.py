"""Findings of backends about their account, for ``cloud-tasks doctor`` and for the start of a run."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.model import LaunchRequest

__all__ = ["CheckContext", "Finding"]


@attrs.frozen(kw_only=True)
class CheckContext:
    """Parameters of a check, which belongs to no job and changes nothing."""

    region: str | None = None
    """The region, if configured."""
    zone: str | None = None
    """The zone, if configured."""
    submit_dir: Path = attrs.field(factory=Path.cwd)
    """Base of relative paths of the configuration."""
    cache_dir: Path | None = None
    """Folder for files that outlive the command; None: no files."""
    queue: str = ""
    """Name of the queue backend that the workers use; empty if none is chosen."""
    stores: tuple[str, ...] = ()
    """URLs at which workers store results and logs: ``s3://bucket/results``."""
    downloads: tuple[str, ...] = ()
    """URLs in the startup script, which instances may read, such as that of the program."""
    staging: str = ""
    """URL of the prefix to which the controller uploads files for the instances (``run.staging``); empty: none."""
    launch: LaunchRequest | None = None
    """First launch of a run that waits for the checks: omit what cannot prevent that run. None for ``doctor``."""


@attrs.frozen(kw_only=True)
class Finding:
    """Result of one check. A failed check is a finding too, not an exception."""

    ok: bool
    """Whether the check passed."""
    subject: str
    """Subject of the check in a few words: ``credentials``, ``Pub/Sub API``."""
    message: str
    """Result in one line, without secrets."""
    remedy: str = ""
    """Suggested fix, such as a command; empty if none is needed."""
    prevents_run: bool = False
    """Whether, if the check failed, a run would certainly not work: ``run`` then refuses to start. False for doubts,
    for what may pass by itself, and for advice, which are warnings."""
