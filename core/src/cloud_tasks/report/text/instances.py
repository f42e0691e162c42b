"""Summary of the running instances of a job, as the log shows it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import attrs

from cloud_tasks.model import InstanceState, Money
from cloud_tasks.quantities import counted
from cloud_tasks.store import InstanceRecord
from cloud_tasks.tables import Column, render_table

__all__ = ["render_instance_table", "render_pending"]

_BILLED = (InstanceState.STARTING, InstanceState.RUNNING)


@attrs.frozen(kw_only=True)
class _Group:
    """Instances that differ in nothing that the table shows."""

    state: InstanceState
    records: Sequence[InstanceRecord]

    @property
    def first(self) -> InstanceRecord:
        return self.records[0]


_COLUMNS: tuple[Column[_Group], ...] = (
    Column(name="state", title="State", value=lambda g: g.first.shown_state, min_width=10),
    Column(name="type", title="Instance Type", value=lambda g: g.first.instance_type, min_width=24),
    Column(name="boot_disk", title="Boot Disk", value=lambda g: g.first.boot_disk_type, min_width=11),
    Column(name="vcpus", title="vCPUs", value=lambda g: g.first.vcpus, min_width=5, align_right=True),
    Column(name="zone", title="Zone", value=lambda g: g.first.zone, min_width=15),
    Column(name="count", title="Count", value=lambda g: len(g.records), min_width=5, align_right=True),
    Column(name="price", title="Total Price", value=lambda g: _price(g.records), places=2, align_right=True),
)


def render_instance_table(instances: Iterable[InstanceRecord]) -> str:
    """Return the instances that have not terminated, grouped; a launch that was not confirmed yet is starting."""
    groups: dict[tuple[str, ...], list[InstanceRecord]] = defaultdict(list)
    for record in instances:
        if record.ended_at is None:
            key = (record.shown_state, record.instance_type, record.boot_disk_type, f"{record.vcpus:9}", record.zone)
            groups[key].append(record)
    if not groups:
        return "No running instances found"
    rows = [_Group(state=_state(records[0]), records=records) for _, records in sorted(groups.items())]
    billed = [record for row in rows if row.state in _BILLED for record in row.records]
    vcpus = sum(record.vcpus for record in billed)
    total = ("Total running/starting:", "", "", str(vcpus), "(weighted)", str(len(billed)), _price(billed).format())
    *lines, last = render_table(rows, _COLUMNS, total=total).splitlines()
    # The note belongs to the figure before it: one space, not a column's two.
    lines.append(last.replace("  (weighted)", " (weighted) "))
    return "Running instance summary:\n" + "\n".join(f"  {line}" for line in lines)


def _state(record: InstanceRecord) -> InstanceState:
    return record.state or InstanceState.STARTING


def _price(records: Iterable[InstanceRecord]) -> Money:
    return sum((record.price_per_hour for record in records), Money.zero())


def render_pending(instances: Iterable[InstanceRecord]) -> str:
    """Return how many instances are pending, with the reasons, in one line; empty for none."""
    pending = [record for record in instances if record.is_pending]
    if not pending:
        return ""
    reasons = [reason for reason, _ in Counter(record.reason for record in pending).most_common() if reason]
    return f"Pending: {counted(len(pending), 'instance')}" + (f" ({', '.join(reasons[:5])})" if reasons else "")
