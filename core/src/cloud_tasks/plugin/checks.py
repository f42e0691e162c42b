"""Findings of backends about their account, for ``cloud-tasks doctor``."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["CheckContext", "Finding"]


@attrs.frozen(kw_only=True)
class CheckContext:
    """Parameters of a check, which belongs to no job and changes nothing."""

    region: str | None = None
    zone: str | None = None
    cache_dir: Path | None = None


@attrs.frozen(kw_only=True)
class Finding:
    """Result of one check. A failed check is a finding too, not an exception."""

    ok: bool
    subject: str
    """Subject of the check in a few words: ``credentials``, ``Pub/Sub API``."""
    message: str
    """Result in one line, without secrets."""
    remedy: str = ""
    """Suggested fix, such as a command; empty if none is needed."""
