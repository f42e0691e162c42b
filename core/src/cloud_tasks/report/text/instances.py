"""The table of what runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from cloud_tasks.model import InstanceState, Money
from cloud_tasks.store import InstanceRecord

__all__ = ["render_instance_table"]

_HEAD = ("State", "Instance Type", "Boot Disk", "vCPUs", "Zone", "Count", "Total Price")
_WIDTHS = (10, 24, 11, 5, 15, 5, 11)
_TO_THE_RIGHT = frozenset({"vCPUs", "Count", "Total Price"})
_BILLED = (InstanceState.STARTING, InstanceState.RUNNING)


def render_instance_table(instances: Iterable[InstanceRecord]) -> str:
    """The instances that have not ended, alike ones in one line; a launch without an answer counts as starting."""
    groups: dict[tuple[InstanceState, str, str, int, str], list[InstanceRecord]] = defaultdict(list)
    for record in instances:
        if record.ended_at is None:
            state = record.state or InstanceState.STARTING
            groups[state, record.instance_type, record.boot_disk_type, record.vcpus, record.zone].append(record)
    if not groups:
        return "No running instances found"
    rows = [
        (key[0].value, key[1], key[2], str(key[3]), key[4], str(len(group)), _price(group).format())
        for key, group in sorted(groups.items(), key=lambda item: (item[0][0].value, *item[0][1:]))
    ]
    widths = [max(least, *(len(row[i]) for row in rows)) for i, least in enumerate(_WIDTHS)]
    head = _line(_HEAD, widths)
    rule = "-" * len(head)
    counted = [record for key, group in groups.items() if key[0] in _BILLED for record in group]
    lines = [head, rule, *(_line(row, widths) for row in rows), rule, _total(counted, widths)]
    return "Running instance summary:\n" + "\n".join(f"  {line}" for line in lines)


def _price(group: Iterable[InstanceRecord]) -> Money:
    return sum((record.price_per_hour for record in group), Money.zero())


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = (
        cell.rjust(width) if name in _TO_THE_RIGHT else cell.ljust(width)
        for name, cell, width in zip(_HEAD, cells, widths, strict=True)
    )
    return "  ".join(parts)


def _total(counted: Sequence[InstanceRecord], widths: Sequence[int]) -> str:
    label = "Total running/starting:".ljust(sum(widths[:3]) + 4)
    vcpus = str(sum(record.vcpus for record in counted)).rjust(widths[3])
    rest = (
        "(weighted)".ljust(widths[4] + 1),
        str(len(counted)).rjust(widths[5]),
        _price(counted).format().rjust(widths[6]),
    )
    return f"{label}  {vcpus} " + "  ".join(rest)
