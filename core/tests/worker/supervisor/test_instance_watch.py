"""The machine is asked whether it will be taken away, as often as its answers are worth."""

from __future__ import annotations

import threading

import pytest

from cloud_tasks.model import InstanceIdentity, TerminationNotice
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.supervisor.instance_watch import InstanceWatch


class Side:
    """A machine that is told of its end after a few looks."""

    def __init__(self) -> None:
        self.looks = 0

    def identity(self) -> InstanceIdentity:
        return InstanceIdentity(instance_id="me")

    def termination_notice(self) -> TerminationNotice | None:
        self.looks += 1
        return TerminationNotice(at=None, reason="taken away") if self.looks > 3 else None


class EagerSide(Side):
    notice_interval = 0.01


@pytest.mark.parametrize(("side", "interval"), [(Side(), 0.01), (EagerSide(), 3600.0)])
def test_a_notice_is_seen_within_the_interval_of_whoever_wants_it_sooner(side: Side, interval: float) -> None:
    told = threading.Event()
    machine = InstanceWatch(
        side,
        interval=interval,
        on_identity=lambda _: None,
        on_notice=lambda _: told.set(),
        log=Log(verbose=False),
    )
    machine.start()
    try:
        assert told.wait(20)
    finally:
        machine.close()
    assert side.looks == 4
