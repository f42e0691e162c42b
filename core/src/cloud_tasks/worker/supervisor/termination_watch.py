"""Termination notices of this instance, real or simulated, passed to the supervisor and to the user's program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cloud_tasks.sanitize import clean_text
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting.event_encoder import EventEncoder

if TYPE_CHECKING:
    from cloud_tasks.model import TerminationNotice
    from cloud_tasks.plugin import InstanceSide

__all__ = ["TerminationWatch"]

_REASON_LENGTH = 500
_MARGIN = 3.0
"""Seconds before the end of the instance at which unfinished tasks are released."""


class TerminationWatch:
    """Passes on the first termination notice.

    Args:
        on_notice: Called from a thread with the reason and the seconds until unfinished tasks have to be released;
            None if the notice names no time.
        callback: The user's; called once, from a thread.
        stack: Closes what is opened here.
    """

    def __init__(
        self,
        on_notice: Callable[[str, float | None], None],
        *,
        callback: Callable[[], Any] | None,
        stack: ExitStack,
        log: Log,
    ) -> None:
        self._notify = on_notice
        self._callback = callback
        self._stack = stack
        self._log = log

    def start(self, side: InstanceSide, *, interval: float, events: EventEncoder) -> None:
        """Check for a notice every ``interval`` seconds from now on, unless the side determines it.

        The events carry the instance id once the provider has reported it.
        """
        from cloud_tasks.worker.supervisor.instance_watch import InstanceWatch

        watch = InstanceWatch(
            side,
            interval=interval,
            on_identity=events.set_instance_id,
            on_notice=self._on_notice,
            log=self._log,
        )
        self._stack.callback(watch.close)
        watch.start()

    def simulate(self, after: float, delay: float | None) -> None:
        """Simulate a notice.

        Args:
            after: Seconds until the notice.
            delay: Seconds from the notice to the end of the instance; None for a notice without a time.
        """

        def notice() -> None:
            from datetime import UTC, datetime

            from cloud_tasks.model import TerminationNotice

            at = None if delay is None else datetime.fromtimestamp(time.time() + delay + _MARGIN, UTC)
            self._on_notice(TerminationNotice(at=at, reason="simulated spot termination"))

        timer = threading.Timer(after, notice)
        timer.name = "worker-notice"
        timer.daemon = True
        timer.start()
        self._stack.callback(timer.cancel)

    def _on_notice(self, notice: TerminationNotice) -> None:
        """Pass a notice on. Called from a thread."""
        try:
            left = None if notice.at is None else notice.at.timestamp() - time.time() - _MARGIN
        except (ValueError, OverflowError, AttributeError):
            left = None
        self._notify(clean_text(str(notice.reason), _REASON_LENGTH), left)
        if self._callback is not None:
            try:
                self._callback()
            except (Exception, SystemExit) as error:
                self._log.warning(f"on_termination_notice failed: {type(error).__name__}: {error}")
