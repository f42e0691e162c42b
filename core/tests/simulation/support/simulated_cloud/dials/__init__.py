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

OFF: Mapping[str, str] = {}
"""What is missing in the controller for a dial to hold, by the name of the dial."""


def dial(name: str) -> Dial:
    """Return the dial of a name."""
    return next(each for each in DIALS if each.name == name)
