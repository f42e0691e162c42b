"""CPU family of an EC2 instance type, and its rank for ``min_cpu_rank``.

The API returns the manufacturer only. The name of an instance family gives the rest: letters, generation, processor
letter (``m7a``: seventh generation, AMD). Families outside this rule are in a table. Source of both: the pages "General
purpose", "Compute optimized" … of "Amazon EC2 instance types" (processor and generation of each family).
"""

from __future__ import annotations

import re

__all__ = ["RANKS", "cpu_family"]

RANKS: dict[str, int] = {
    "Intel Generic": 1,
    "Intel Sandy Bridge": 4,
    "Intel Ivy Bridge": 5,
    "Intel Haswell": 6,
    "Intel Broadwell": 7,
    "Intel Core i7": 8,
    "AWS Graviton": 9,
    "AMD Naples": 10,
    "Intel Skylake": 11,
    "Intel Cascade Lake": 12,
    "AMD Rome": 13,
    "Intel Ice Lake": 16,
    "AMD Milan": 17,
    "AWS Graviton2": 18,
    "AWS Graviton3": 19,
    "AWS Graviton3E": 20,
    "Intel Sapphire Rapids": 21,
    "AMD Genoa": 22,
    "AWS Graviton4": 23,
    "Intel Emerald Rapids": 25,
    "AMD Turin": 26,
    # Newer than the ranks of the earlier tool.
    "Intel Granite Rapids": 28,
    "AWS Graviton5": 29,
}
"""Oldest first; other families have rank 0 (unknown)."""

_BY_RULE: dict[str, dict[int, str]] = {
    "intel": {
        1: "Intel Generic",
        2: "Intel Sandy Bridge",
        3: "Intel Ivy Bridge",
        4: "Intel Haswell",
        5: "Intel Skylake",
        6: "Intel Ice Lake",
        7: "Intel Sapphire Rapids",
        8: "Intel Granite Rapids",
    },
    "amd": {5: "AMD Naples", 6: "AMD Milan", 7: "AMD Genoa", 8: "AMD Turin"},
    "aws": {
        1: "AWS Graviton",
        4: "AWS Graviton2",
        6: "AWS Graviton2",
        7: "AWS Graviton3",
        8: "AWS Graviton4",
        9: "AWS Graviton5",
    },
}

_EXCEPTIONS: dict[str, str] = {
    # A family with processors of two generations has the older one: a lower bound.
    **dict.fromkeys(("t2", "d2", "x1", "x1e"), "Intel Haswell"),
    **dict.fromkeys(("f1", "g3", "g3s", "h1", "i3", "p2", "p3", "r4"), "Intel Broadwell"),
    **dict.fromkeys(("t3", "i3en", "p3dn", "z1d"), "Intel Skylake"),
    **dict.fromkeys(
        ("d3", "d3en", "dl1", "g4dn", "inf1", "m5dn", "m5n", "m5zn", "p4d", "p4de", "r5b", "r5dn", "r5n", "vt1"),
        "Intel Cascade Lake",
    ),
    **dict.fromkeys(("u-3tb1", "u-6tb1", "u-9tb1", "u-12tb1"), "Intel Skylake"),
    **dict.fromkeys(("u-18tb1", "u-24tb1", "x2iezn"), "Intel Cascade Lake"),
    **dict.fromkeys(("i4i", "trn1", "trn1n", "x2idn", "x2iedn"), "Intel Ice Lake"),
    **dict.fromkeys(("p5e", "p5en", "trn2", "trn2u"), "Intel Sapphire Rapids"),
    **dict.fromkeys(("i7i", "i7ie", "p6-b200"), "Intel Emerald Rapids"),
    **dict.fromkeys(("c5a", "c5ad", "g4ad", "g5"), "AMD Rome"),
    "dl2q": "Intel Cascade Lake",
    "t3a": "AMD Naples",
    **dict.fromkeys(("f2", "g6", "g6e", "g6f", "gr6", "gr6f", "inf2", "p5"), "AMD Milan"),
    **dict.fromkeys(("im4gn", "is4gen", "g5g", "x2gd", "i4g"), "AWS Graviton2"),
    **dict.fromkeys(("c7gn", "hpc7g"), "AWS Graviton3E"),
    "g7": "",
    "g7e": "",
    "p6-b300": "",
}

_FAMILY = re.compile(r"[a-z]+?(?:-[a-z0-9]+?)?(?P<generation>\d+)")


def cpu_family(instance_type: str, manufacturer: str) -> str:
    """Return the CPU family of an instance type, e.g. ``Intel Ice Lake``, or an empty string if unknown.

    Args:
        manufacturer: As in the API: ``Intel``, ``AMD``, ``AWS``, ``Amazon Web Services`` …; may be empty.
    """
    family = instance_type.partition(".")[0]
    if family in _EXCEPTIONS:
        return _EXCEPTIONS[family]
    match = _FAMILY.match(family)
    maker = "aws" if manufacturer.lower().startswith(("aws", "amazon")) else manufacturer.lower()
    generations = _BY_RULE.get(maker, {})
    return generations.get(int(match["generation"]), "") if match else ""
