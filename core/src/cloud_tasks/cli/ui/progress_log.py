"""Progress of a job in the log: queue depth, running instances and task summary."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from cloud_tasks.cli.logging_setup import write_text
from cloud_tasks.controller import Progress
from cloud_tasks.report import render_instance_table, render_summary, throughput

__all__ = ["ProgressLog"]

log = structlog.get_logger()


class ProgressLog:
    """Log the progress at each scaling check; the instance table only when it has changed.

    Args:
        is_silent: Whether the live view shows the progress instead.
    """

    def __init__(self, *, is_silent: Callable[[], bool] = lambda: False) -> None:
        self._is_silent = is_silent
        self._last_table = ""

    def __call__(self, progress: Progress) -> None:
        if self._is_silent():
            return
        log.info("Checking if scaling is needed...")
        depth = progress.depth
        if depth is not None and depth.visible is not None:
            held = depth.visible + (depth.in_flight or 0)
            log.info(f"Current queue depth: {held}" + ("" if depth.exact else " (estimate)"))
        table = render_instance_table(progress.instances)
        if table != self._last_table:
            self._last_table = table
            for line in table.splitlines():
                log.info(line)
        rate = throughput(progress.summary, progress.now)
        price = progress.price_per_hour
        summary = render_summary(
            progress.summary, pace=rate, cost=progress.cost, price_per_hour=price, separates_queued=False
        )
        write_text(summary)
