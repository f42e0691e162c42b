"""The end of credentials is announced once, an hour before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from virtual_loop import START, VirtualLoop

from cloud_tasks.controller.autoscaler.credentials_watch import CredentialsEnd, CredentialsWatch
from cloud_tasks.controller.event_loop import start

HOUR = timedelta(hours=1)


def announcements(loop: VirtualLoop, ends: list[CredentialsEnd | Exception | None], *, hours: int) -> list[str]:
    """Return the warnings of a run in which the end is read every hour from the list."""

    def read() -> CredentialsEnd | None:
        found = ends[min(int((loop.now() - START) / HOUR), len(ends) - 1)]
        if isinstance(found, Exception):
            raise found
        return found

    with capture_logs() as logs:
        start(CredentialsWatch(loop, read).run(lambda: True))
        loop.run_for(hours * HOUR)
    return [entry["event"] for entry in logs if entry["log_level"] == "warning"]


def end(hours: float) -> CredentialsEnd:
    return CredentialsEnd(backend="aws", at=START + hours * HOUR)


def test_end_is_announced_once_an_hour_before(loop: VirtualLoop) -> None:
    (line,) = announcements(loop, [end(8)], hours=12)
    assert line.startswith("The credentials of aws end at 08:00:00 UTC, in 59m 59s: nothing can be launched")


def test_renewed_credentials_are_announced_again(loop: VirtualLoop) -> None:
    assert announcements(loop, [end(3), end(3), end(10)], hours=8) == []
    assert len(announcements(VirtualLoop(), [end(2), end(2), end(2), end(6)], hours=8)) == 2


@pytest.mark.parametrize("found", [None, RuntimeError("odd")])
def test_end_that_is_not_known_is_not_announced(loop: VirtualLoop, found: Exception | None) -> None:
    assert announcements(loop, [found], hours=3) == []


def test_end_in_the_past_is_announced_as_past() -> None:
    assert end(1).describe(START + 2 * HOUR).startswith("The credentials of aws ended at 01:00:00 UTC: ")
