"""Burstable sizes of the B series: the share of each vCPU that they sustain.

Source: "B-series burstable virtual machine sizes", "Bsv2", "Basv2" and "Bpsv2 size series" of the Azure documentation.
Credits banked per hour are minutes of one vCPU; the shares are these minutes divided by 60 and the number of vCPUs. A
size without credits runs at this share and is not charged more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["sustained_share"]

_NAME = re.compile(r"Standard_B(?P<size>\d+(?P<letters>[a-z]*))(?P<version>_v\d+)?", re.IGNORECASE)
_FIRST: Mapping[str, float] = {
    "1ls": 0.05,
    "1s": 0.1,
    "1ms": 0.2,
    "2s": 0.2,
    "2ms": 0.3,
    "4ms": 0.225,
    "8ms": 0.16875,
    "12ms": 0.16875,
    "16ms": 0.16875,
    "20ms": 0.16875,
}
"""By size, for the series without a version."""
_UNKNOWN = 0.05


def sustained_share(size: str) -> float:
    """Return the share of each vCPU that a VM size sustains; 1 for a size outside of the B series."""
    found = _NAME.fullmatch(size)
    if found is None:
        return 1.0
    letters = found["letters"].lower()
    if found["version"] is None:
        return _FIRST.get(found["size"].lower(), _UNKNOWN)
    return 0.2 if "t" in letters else 0.3 if "l" in letters else 0.4
