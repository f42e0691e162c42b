"""Identity and termination notice of the instance."""

from __future__ import annotations

import threading

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


class EagerSide(Side):
    notice_interval = 0.01


@pytest.mark.parametrize(("side", "interval"), [(Side(), 0.01), (EagerSide(), 3600.0)])
def test_instance_watch_checks_at_the_shorter_of_both_intervals(side: Side, interval: float) -> None:
    noticed = threading.Event()
    watch = InstanceWatch(
        side,
        interval=interval,
        on_identity=lambda _: None,
        on_notice=lambda _: noticed.set(),
        log=Log(verbose=False),
    )
    watch.start()
    try:
        assert noticed.wait(20)
    finally:
        watch.close()
    assert side.checks == 4
