"""Leases of a worker: when they are extended, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.consumers.lease_extender import LeaseExtender


class Leases:
    """A queue with a clock that records extensions and ends leases."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[Sequence[str], float]] = []
        self.ends: dict[str, float] = {}

    def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> list[str]:
        self.calls.append((lease_ids, lease.total_seconds()))
        lost = [each for each in lease_ids if self.ends.setdefault(each, 60.0) <= self.now]
        self.ends.update(dict.fromkeys(lease_ids, self.now + lease.total_seconds()))
        return lost


def run(queue: Leases, extender: LeaseExtender, seconds: int) -> None:
    """Advance the clock, with a look every ten seconds, as the thread of the extender does."""
    lost: list[str] = []
    for _ in range(0, seconds, 10):
        queue.now += 10
        extender.extend_due(lost.extend)
    assert lost == []


@pytest.mark.parametrize(("longest", "at_most"), [(None, 180), (600, 32), (300, 51)])
def test_leases_of_long_tasks_grow_and_never_expire(longest: float | None, at_most: int) -> None:
    queue = Leases()
    limit = None if longest is None else timedelta(seconds=longest)
    extender = LeaseExtender(
        queue,  # type: ignore[arg-type]
        timedelta(seconds=60),
        log=Log(verbose=False),
        longest=limit,
        clock=lambda: queue.now,
    )
    extender.hold(["a"])
    run(queue, extender, 3600)
    assert len(queue.calls) <= at_most
    assert max(lease for _, lease in queue.calls) <= (longest or 60)


def test_lease_is_never_longer_than_its_task_has_been_held() -> None:
    queue = Leases()
    extender = LeaseExtender(
        queue,  # type: ignore[arg-type]
        timedelta(seconds=60),
        log=Log(verbose=False),
        longest=timedelta(minutes=10),
        clock=lambda: queue.now,
    )
    extender.hold(["old"])
    run(queue, extender, 900)
    queue.ends["new"] = queue.now + 60
    extender.hold(["new"])
    queue.calls.clear()
    assert extender.confirm(["old", "new"]) == set()
    assert queue.calls == [(["old"], 480.0), (["new"], 60.0)]
    extender.drop(["old", "new"])
    assert extender.count == 0


def test_expired_lease_is_reported_also_if_another_call_fails() -> None:
    class Failing(Leases):
        def extend(self, lease_ids: Sequence[str], *, lease: timedelta) -> list[str]:
            if lease.total_seconds() == 60:
                raise OSError("unreachable")
            return list(lease_ids)

    queue, lost = Failing(), list[str]()
    extender = LeaseExtender(
        queue,  # type: ignore[arg-type]
        timedelta(seconds=60),
        log=Log(verbose=False),
        longest=timedelta(minutes=10),
        clock=lambda: queue.now,
    )
    extender.hold(["old"])
    queue.now = 600.0
    extender.hold(["new"])
    queue.now = 660.0
    extender.close()
    extender.extend_due(lost.extend)
    assert (lost, extender.count) == (["old"], 1)
