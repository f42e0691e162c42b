"""Headroom of an offer within quotas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cloud_tasks.model import Headroom

__all__ = ["headroom_within"]


def headroom_within(needs: Iterable[tuple[str, float]], free: Mapping[str, float]) -> Headroom | None:
    """Return how many more instances all quotas allow, and the limiting quota; None without any known quota.

    Args:
        needs: Quotas that an instance uses, with the amount. A quota may occur twice, and may be unknown.
        free: Unused amount of each known quota; a negative one counts as zero.
    """
    each: dict[str, float] = {}
    for name, amount in needs:
        each[name] = each.get(name, 0) + amount
    used = {name: amount for name, amount in each.items() if amount > 0 and name in free}
    allowed = [(max(0, int(free[name] // amount)), name) for name, amount in used.items()]
    if not allowed:
        return None
    instances, limited_by = min(allowed)
    return Headroom(instances=instances, limited_by=limited_by)
