"""CPU family and GPU of a VM size, from its name: the API does not report them.

"Sizes for virtual machines in Azure": a series on several CPU generations has the oldest, since a VM may get it. Ranks
are those of ``min_cpu_rank``; 0 if a generation has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

__all__ = ["Cpu", "cpu_of", "gpu_of"]


@attrs.frozen
class Cpu:
    family: str = ""
    rank: int = 0


_HASWELL = Cpu("Intel Haswell", 6)
_BROADWELL = Cpu("Intel Broadwell", 7)
_NAPLES = Cpu("AMD Naples", 10)
_SKYLAKE = Cpu("Intel Skylake", 11)
_CASCADE_LAKE = Cpu("Intel Cascade Lake", 12)
_ROME = Cpu("AMD Rome", 13)
_ALTRA = Cpu("Ampere Altra", 15)
_ICE_LAKE = Cpu("Intel Ice Lake", 16)
_MILAN = Cpu("AMD Milan", 17)
_SAPPHIRE_RAPIDS = Cpu("Intel Sapphire Rapids", 21)
_GENOA = Cpu("AMD Genoa", 22)
_EMERALD_RAPIDS = Cpu("Intel Emerald Rapids", 25)
_TURIN = Cpu("AMD Turin", 26)
_COBALT = Cpu("Azure Cobalt 100", 0)

_NAME = re.compile(
    r"Standard_(?P<letters>[A-Z]+)(?P<vcpus>\d+)(-\d+)?(?P<features>[a-z]*)(_(?P<gpu>[A-Z]+\d*[A-Z]*))?(_v(?P<version>\d+))?"
)

_INTEL: Mapping[str, Mapping[int, Cpu]] = {
    "A": {2: _HASWELL},
    "B": {1: _HASWELL, 2: _ICE_LAKE},
    "D": {2: _HASWELL, 3: _HASWELL, 4: _CASCADE_LAKE, 5: _ICE_LAKE, 6: _EMERALD_RAPIDS},
    "DC": {3: _ICE_LAKE, 5: _SAPPHIRE_RAPIDS, 6: _EMERALD_RAPIDS},
    "F": {1: _HASWELL, 2: _SKYLAKE},
    "FX": {1: _CASCADE_LAKE, 2: _EMERALD_RAPIDS},
    "HC": {1: _SKYLAKE},
    "L": {3: _ICE_LAKE, 4: _EMERALD_RAPIDS},
    "M": {1: _HASWELL, 2: _SKYLAKE, 3: _SAPPHIRE_RAPIDS},
    "NC": {3: _BROADWELL},
    "ND": {2: _SKYLAKE, 5: _SAPPHIRE_RAPIDS},
    "NV": {3: _BROADWELL},
}
_AMD: Mapping[str, Mapping[int, Cpu]] = {
    "B": {2: _MILAN},
    "D": {4: _ROME, 5: _MILAN, 6: _GENOA, 7: _TURIN},
    "DC": {5: _MILAN, 6: _GENOA},
    "F": {6: _GENOA, 7: _TURIN},
    "L": {3: _MILAN, 4: _GENOA},
    "NC": {3: _ROME, 4: _MILAN, 5: _GENOA},
    "ND": {4: _ROME},
    "NV": {4: _ROME, 5: _MILAN},
}
_ARM: Mapping[int, Cpu] = {2: _ALTRA, 5: _ALTRA, 6: _COBALT}
_ALWAYS_AMD: Mapping[str, Mapping[int, Cpu]] = {
    "HB": {1: _NAPLES, 2: _ROME, 3: _MILAN, 4: _GENOA},
    "HX": {1: _GENOA},
}
_LIKE = {"E": "D", "DS": "D", "EC": "DC"}
_NAPLES_SERIES = ("L", 2)

_GPUS: Mapping[tuple[str, int], str] = {
    ("NC", 2): "P100",
    ("NC", 3): "V100",
    ("ND", 2): "V100",
    ("NV", 3): "M60",
    ("NV", 4): "MI25",
}
"""GPUs of series whose names do not contain them."""


def cpu_of(name: str) -> Cpu:
    """Return the oldest CPU of a VM of this size; an empty `Cpu` if unknown."""
    match = _NAME.fullmatch(name)
    if match is None:
        return Cpu()
    letters, features, version = match["letters"], match["features"], int(match["version"] or 1)
    series = _LIKE.get(letters, letters)
    if (series, version) == _NAPLES_SERIES:
        return _NAPLES
    if series in _ALWAYS_AMD:
        return _ALWAYS_AMD[series].get(version, Cpu())
    if "p" in features:
        return _ARM.get(version, Cpu())
    table = _AMD if "a" in features else _INTEL
    return table.get(series, {}).get(version, Cpu())


def gpu_of(name: str) -> str:
    """Return the GPU, ``A100`` of ``Standard_NC24ads_A100_v4``; empty if unknown."""
    match = _NAME.fullmatch(name)
    if match is None or not match["letters"].startswith("N"):
        return ""
    return match["gpu"] or _GPUS.get((match["letters"], int(match["version"] or 1)), "")
