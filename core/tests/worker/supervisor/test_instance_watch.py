"""Identity and termination notice of the instance."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.supervisor.instance_watch import InstanceWatch


class Side:
    """An instance whose termination notice arrives at the fourth check."""

    def __init__(self) -> None:
        self.checks = 0

    def identity(self) -> InstanceIdentity:
        return InstanceIdentity(instance_id="me")

    def termination_notice(self) -> TerminationNotice | None:
        self.checks += 1
        return TerminationNotice(at=None, reason="reclaimed") if self.checks > 3 else None


def timed(notice_interval: object) -> Side:
    """Return a side that determines how often it is asked."""
    side = Side()
    side.notice_interval = notice_interval  # type: ignore[attr-defined]
    return side


def watch_of(side: Side, interval: float, noticed: threading.Event) -> InstanceWatch:
    return InstanceWatch(
        side,
        interval=interval,
        on_identity=lambda _: None,
        on_notice=lambda _: noticed.set(),
        log=Log(verbose=False),
    )


@pytest.mark.parametrize(
    ("side", "interval"),
    [
        (Side(), 0.01),
        (timed(0.01), 3600.0),
        (timed(timedelta(seconds=0.01)), 3600.0),
        (timed("often"), 0.01),
        (timed(float("nan")), 0.01),
        (timed(-1), 0.01),
    ],
)
def test_instance_watch_checks_at_the_interval_of_the_side(side: Side, interval: float) -> None:
    noticed = threading.Event()
    watch = watch_of(side, interval, noticed)
    watch.start()
    try:
        assert noticed.wait(20)
    finally:
        watch.close()
    assert side.checks == 4


@pytest.mark.parametrize(("interval", "checks"), [(3600, 1), (timedelta(hours=1), 1), (None, 0)])
def test_instance_watch_checks_less_often_if_the_side_determines_so(interval: object, checks: int) -> None:
    side, is_over = timed(interval), threading.Event()
    watch = watch_of(side, 0.001, threading.Event())
    watch.start()
    # Several intervals of the worker.
    is_over.wait(0.2)
    watch.close()
    assert side.checks == checks
