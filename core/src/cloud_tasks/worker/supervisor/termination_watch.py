"""Termination notices: from the machine, or simulated; told to the supervisor, to tasks and to the program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cloud_tasks.errors import CloudTasksError
from cloud_tasks.worker.common.log import Log
from cloud_tasks.worker.reporting.event_encoder import EventEncoder
from cloud_tasks.worker.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from cloud_tasks.model import TerminationNotice
    from cloud_tasks.registry import Registry

__all__ = ["TerminationWatch"]

_MARGIN = 3.0
"""Seconds before the machine is taken away at which unfinished tasks are released."""


class TerminationWatch:
    """Passes on what it is told of this machine's end.

    Args:
        callback: The program's; called once, from a thread.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        callback: Callable[[], Any] | None,
        stack: ExitStack,
        log: Log,
    ) -> None:
        self._supervisor = supervisor
        self._callback = callback
        self._stack = stack
        self._log = log

    def watch(
        self, registry: Registry, compute_name: str, data: Any, *, environ: Mapping[str, str], events: EventEncoder
    ) -> None:
        """Ask the machine from now on, every ``data.notice_interval`` seconds; events name it once it is known."""
        from cloud_tasks.plugin import InstanceContext
        from cloud_tasks.worker.supervisor.environment import settings_from_environment
        from cloud_tasks.worker.supervisor.instance_watch import InstanceWatch

        try:
            backend = registry.compute(compute_name)
            settings = settings_from_environment(backend.settings, backend.name, environ)
            context = InstanceContext(job_id=data.job_id or "")
            side = self._stack.enter_context(backend.open_instance(settings, context))
        except CloudTasksError as error:
            self._log.warning(f"Termination notices cannot be seen: {error}")
            return

        def on_identity(instance_id: str) -> None:
            events.instance_id = instance_id

        machine = InstanceWatch(
            side, interval=data.notice_interval, on_identity=on_identity, on_notice=self._on_notice, log=self._log
        )
        self._stack.callback(machine.close)
        machine.start()

    def simulate(self, after: float, delay: float | None) -> None:
        """Give a notice in ``after`` seconds, of an end ``delay`` seconds later; None: that says no time."""

        def notice() -> None:
            from datetime import UTC, datetime

            from cloud_tasks.model import TerminationNotice

            at = None if delay is None else datetime.fromtimestamp(time.time() + delay + _MARGIN, UTC)
            self._on_notice(TerminationNotice(at=at, reason="simulated spot termination"))

        timer = threading.Timer(after, notice)
        timer.daemon = True
        timer.start()
        self._stack.callback(timer.cancel)

    def _on_notice(self, notice: TerminationNotice) -> None:
        """Called from a thread."""
        left = None if notice.at is None else notice.at.timestamp() - time.time() - _MARGIN
        self._supervisor.post(lambda: self._supervisor.on_notice(notice.reason, left))
        if self._callback is not None:
            try:
                self._callback()
            except Exception as error:
                self._log.warning(f"on_termination_notice failed: {type(error).__name__}: {error}")
