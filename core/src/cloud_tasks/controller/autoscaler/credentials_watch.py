"""Announcement of the end of credentials that nothing renews by itself.

Invariant, with a test: each end is announced once within its last hour; one that cannot be read ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import attrs
import structlog

from cloud_tasks.controller.event_loop import Loop, call, sleep
from cloud_tasks.quantities import format_moment, format_span

__all__ = ["CredentialsEnd", "CredentialsWatch"]

log = structlog.get_logger()

_INTERVAL = timedelta(minutes=5)
_NOTICE = timedelta(hours=1)


@attrs.frozen(kw_only=True)
class CredentialsEnd:
    """The end of a backend's credentials."""

    backend: str
    at: datetime

    def describe(self, now: datetime) -> str:
        """Return the announcement in one line."""
        rest = self.at - now
        when = f"ended at {format_moment(self.at, now=now)}"
        if rest > timedelta(0):
            when = f"end at {format_moment(self.at, now=now)}, in {format_span(rest)}"
        return (
            f"The credentials of {self.backend} {when}: nothing can be launched, collected or terminated until renewal"
        )


class CredentialsWatch:
    """Reads the end of the credentials at an interval.

    Args:
        read: Return the first end; None if none is known.
    """

    def __init__(self, loop: Loop, read: Callable[[], CredentialsEnd | None]) -> None:
        self._loop = loop
        self._read = read
        self._announced: CredentialsEnd | None = None

    async def run(self, is_running: Callable[[], bool]) -> None:
        """Announce ends until the end of the run begins."""
        while True:
            await sleep(self._loop, _INTERVAL)
            if not is_running():
                return
            try:
                found = await call(self._loop, self._read)
            except Exception as error:
                log.debug(f"End of the credentials unknown: {error}")
                continue
            now = self._loop.now()
            if found is not None and found != self._announced and found.at - now <= _NOTICE:
                self._announced = found
                log.warning(found.describe(now))
