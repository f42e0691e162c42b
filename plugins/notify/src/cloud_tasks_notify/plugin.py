"""Registration of the event sink; imports nothing that other commands would pay for."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import EventSinkBackend, hookimpl
from cloud_tasks_notify.settings import NotifySettings

__all__ = ["cloud_tasks_register_event_sink"]


@hookimpl
def cloud_tasks_register_event_sink() -> Sequence[EventSinkBackend]:
    """Notifications by webhook or Apprise."""
    return (
        EventSinkBackend(
            name="webhook",
            summary="notify a chat, email or webhook of the end of a run, failed tasks and the budget",
            settings=NotifySettings,
            open="cloud_tasks_notify.sink:NotificationSink",
        ),
    )
