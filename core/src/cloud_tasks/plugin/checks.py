"""What a backend tells of the account that it would work in: for ``cloud-tasks doctor``."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["CheckContext", "Finding"]


@attrs.frozen(kw_only=True)
class CheckContext:
    """What a check is told; it concerns no job, and changes nothing."""

    region: str | None = None
    zone: str | None = None
    cache_dir: Path | None = None


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that was looked at. What is wrong is a finding too, never an exception."""

    ok: bool
    subject: str
    """What was looked at, in a few words: ``credentials``, ``Pub/Sub API``."""
    message: str
    """One line: what was found. Never a secret."""
    remedy: str = ""
    """The command, or the step, that mends it; empty where there is nothing to mend."""
