"""The configuration sections of the event sinks that come with core. Imports nothing that a worker would not."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.plugin import setting

__all__ = ["SqliteSettings"]


@attrs.frozen(kw_only=True)
class SqliteSettings:
    """Section ``sqlite``."""

    file: Path | None = setting(
        help="the database file; relative to the current directory; none: <job id>-events.sqlite", default=None
    )
