"""What the start of a shipped program took on its instance, from the first event of its worker. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from cloud_tasks.escape import terminal_line
from cloud_tasks.model import Event

__all__ = ["describe_start"]

_MAX_STEPS = 10


def describe_start(event: Event) -> str:
    """Return the steps of a start with their durations; empty for a worker that was started in another way."""
    steps = event.details.get("start_steps")
    if not isinstance(steps, Mapping):
        return ""
    known = [(name, span) for name, span in steps.items() if isinstance(span, (int, float))][:_MAX_STEPS]
    return ", ".join(f"{terminal_line(str(name))} {span:.1f} s" for name, span in known)
