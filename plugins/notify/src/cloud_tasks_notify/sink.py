"""The event sink that sends notifications about a job."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.model import Event, JobPhase, JobProgress
from cloud_tasks.plugin import EventSinkContext
from cloud_tasks_notify.address import is_webhook, read_address
from cloud_tasks_notify.delivery import NotificationQueue
from cloud_tasks_notify.senders import make_sender
from cloud_tasks_notify.settings import NotifySettings
from cloud_tasks_notify.template import render
from cloud_tasks_notify.triggers import BudgetTrigger, FailureRateTrigger, Notification, describe_end

__all__ = ["NotificationSink"]


class NotificationSink:
    """Sink that evaluates the triggers and enqueues notifications.

    Raises:
        InputError: The URL is missing or not valid.
    """

    def __init__(self, settings: NotifySettings, context: EventSinkContext) -> None:
        self._settings = settings
        self._job_id = context.job_id
        self._failures = FailureRateTrigger(
            settings.failure_rate, window=settings.failure_window, sample=settings.failure_sample
        )
        self._budget = BudgetTrigger(settings.budget, projected=settings.budget_projected)
        self._progress: JobProgress | None = None
        address = read_address(settings.url, settings.url_file)
        # Escape Slack markup, which compatible webhooks use as well. Apprise escapes for its services.
        self._escape = settings.field == "text" and is_webhook(address)
        self._queue = NotificationQueue(make_sender(address, field=settings.field), patience=settings.patience)

    def write(self, events: Sequence[Event]) -> None:
        """Count the events towards the failure rate."""
        for event in events:
            if notification := self._failures.update(event):
                self._notify(notification)

    def progress(self, progress: JobProgress) -> None:
        """Compare the cost with the budget, and report the end of a run."""
        self._progress = progress
        for notification in self._budget.update(progress):
            self._notify(notification)
        if progress.phase is not JobPhase.RUNNING and self._settings.on_finish:
            self._notify(describe_end(progress))

    def flush(self) -> None:
        """Do nothing: notifications are sent in the background."""

    def close(self) -> None:
        """Wait for the last deliveries. Idempotent."""
        self._queue.close()

    def _notify(self, notification: Notification) -> None:
        text = render(
            self._settings.template,
            notification,
            job_id=self._job_id,
            progress=self._progress,
            failure_rate=self._failures.rate,
            escape=self._escape,
        )
        self._queue.put(text)
