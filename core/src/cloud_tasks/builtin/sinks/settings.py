"""Settings of the built-in event sinks; light enough for a worker."""

from __future__ import annotations

from pathlib import Path

import attrs

from cloud_tasks.plugin import setting

__all__ = ["SqliteSettings"]


@attrs.frozen(kw_only=True)
class SqliteSettings:
    """Section ``sqlite``."""

    file: Path | None = setting(help="Database file (default: <job id>-events.sqlite)", default=None)
