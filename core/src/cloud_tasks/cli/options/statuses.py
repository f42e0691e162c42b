"""Task statuses as an option value: ``--where failed,timed_out``."""

from __future__ import annotations

from collections.abc import Iterable

from cloud_tasks.errors import InputError
from cloud_tasks.model import TaskStatus

__all__ = ["parse_statuses"]


def parse_statuses(text: str, allowed: Iterable[TaskStatus], *, where: str = "--where") -> frozenset[TaskStatus]:
    """Parse statuses separated by commas. Raises `InputError` where one is unknown or none is given."""
    known = {status.value: status for status in allowed}
    hint = f"choose from {', '.join(sorted(known))}"
    names = [name.strip().replace("-", "_").lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(f'invalid status "{name}"', where=where, hint=hint)
    if not names:
        raise InputError("no status given", where=where, hint=hint)
    return frozenset(known[name] for name in names)
