"""Text of a notification, from the user's template."""

from __future__ import annotations

from string import Template

from cloud_tasks.model import JobProgress
from cloud_tasks_notify.triggers import Notification

__all__ = ["PLACEHOLDERS", "check_template", "render"]

PLACEHOLDERS = (
    "message",
    "kind",
    "job_id",
    "phase",
    "reason",
    "total",
    "finished",
    "failed",
    "failure_rate",
    "cost",
    "expected_cost",
    "max_total_cost",
)


def check_template(text: str) -> None:
    """Raise `ValueError` if a template has an unknown placeholder or a stray dollar sign."""
    template = Template(text)
    if not template.is_valid():
        raise ValueError("$ without a placeholder name; write $$ for a dollar sign")
    unknown = [name for name in template.get_identifiers() if name not in PLACEHOLDERS]
    if unknown:
        known = ", ".join(f"${name}" for name in PLACEHOLDERS)
        raise ValueError(f"unknown placeholder ${unknown[0]}; the placeholders are {known}")


def render(
    template: str,
    notification: Notification,
    *,
    job_id: str,
    progress: JobProgress | None,
    failure_rate: float,
    escape: bool,
) -> str:
    """Return the text to send.

    Args:
        progress: Latest progress of the job; None before the first report.
        escape: Escape Slack markup in the values, so that the text of an exception cannot mention users or create
            links. The template itself is not escaped.
    """
    values: dict[str, object] = dict.fromkeys(PLACEHOLDERS, "")
    if progress is not None:
        known = {name: getattr(progress, name, None) for name in PLACEHOLDERS}
        values |= {name: value for name, value in known.items() if value is not None}
        values["phase"] = progress.phase.value
    values |= {
        "message": f"Job {job_id}: {notification.message}" if job_id else notification.message,
        "kind": notification.kind,
        "job_id": job_id,
        "failure_rate": f"{failure_rate:.0%}",
    }
    return Template(template).substitute({name: _escaped(value) if escape else value for name, value in values.items()})


def _escaped(value: object) -> str:
    return str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
