"""Dials of the simulated cloud, one module for each kind.

The dials in `OFF` are in no drawn scenario, except by name (``--dial NAME`` of the soak test): the controller does not
keep its invariants there yet. To turn one on, delete its line.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulated_cloud.dials import calls, clocks, launches, money, parties
from simulated_cloud.dials.dial import Dial

__all__ = ["DIALS", "OFF", "Dial", "dial"]

DIALS: tuple[Dial, ...] = (*clocks.DIALS, *calls.DIALS, *launches.DIALS, *money.DIALS, *parties.DIALS)

OFF: Mapping[str, str] = {
    "controller clock": "silence and cost by the arrival of events, and the time of requests, at the controller",
    "cloud clock": "cost from the request of a launch, not from the provider's time of creation",
    "worker clocks": "silence by the arrival of events, not by their own times",
    "clock jumps": "cost that a jump of the controller's clock does not change",
    "listing outage": "the limit on the total cost without a listing",
    "slow call": "the limit on the total cost while a listing lasts",
    "expired credentials": "tasks that are sent again after credentials expired",
    "late queues": "a new queue that does not exist yet is waited for",
    "hidden ends": "termination of an earlier run that is repeated after any error",
    "moving prices": "prices that are requested again while a job runs, and a maximum price of spot instances",
    "burstable types": "types that sustain a share of their CPUs, left out unless they are named",
    "dead controller": "lifetimes that follow from the limit on the total cost",
    "second controller": "instances of another owner that are left alone",
}
"""What is missing in the controller for a dial to hold, by the name of the dial."""


def dial(name: str) -> Dial:
    """Return the dial of a name."""
    return next(each for each in DIALS if each.name == name)
