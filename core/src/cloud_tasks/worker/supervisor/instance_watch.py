"""Identity and termination notice of the instance that the worker runs on, read by a thread.

A metadata service may take seconds to answer, and one that fails does not stop the worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from cloud_tasks.worker.common.log import Log

if TYPE_CHECKING:
    from cloud_tasks.model import TerminationNotice
    from cloud_tasks.plugin import InstanceSide

__all__ = ["InstanceWatch"]

_IDENTITY_TIMEOUT = 2.0


def _notice_interval(side: InstanceSide, default: float) -> float | None:
    """Return the seconds between two checks for a notice; None for no checks."""
    found = getattr(side, "notice_interval", default)
    if found is None:
        return None
    seconds = found.total_seconds() if isinstance(found, timedelta) else found
    is_usable = isinstance(seconds, (int, float)) and 0 < seconds <= threading.TIMEOUT_MAX
    return float(seconds) if is_usable else default


class InstanceWatch:
    """Polls an `InstanceSide` until identity and notice are known.

    Args:
        interval: Seconds between two checks for a notice, unless the side determines it (`NoticeTiming`).
        on_identity: Called once with the instance id, from the thread.
        on_notice: Called once with the termination notice, from the thread.
    """

    def __init__(
        self,
        side: InstanceSide,
        *,
        interval: float,
        on_identity: Callable[[str], None],
        on_notice: Callable[[TerminationNotice], None],
        log: Log,
    ) -> None:
        self._side = side
        self._interval = interval
        self._notice_interval = _notice_interval(side, interval)
        self._on_identity = on_identity
        self._on_notice = on_notice
        self._log = log
        self._answered = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="worker-instance", daemon=True)

    def start(self) -> None:
        """Start the thread; wait up to 2 seconds for the identity, so that the first events carry it."""
        self._thread.start()
        self._answered.wait(_IDENTITY_TIMEOUT)

    def close(self) -> None:
        """Have the thread end after its present check."""
        self._stop.set()

    def _serve(self) -> None:
        is_identified, is_noticed = False, self._notice_interval is None
        while not self._stop.is_set():
            if not is_identified:
                is_identified = self._identify()
            if not is_noticed:
                is_noticed = self._check_notice()
            if is_identified and is_noticed:
                return
            self._stop.wait(self._interval if self._notice_interval is None else self._notice_interval)

    def _identify(self) -> bool:
        try:
            self._on_identity(self._side.identity().instance_id)
        except (Exception, SystemExit) as error:
            self._log.debug(f"The identity of this instance cannot be read: {error}")
            self._answered.set()
            return False
        self._answered.set()
        return True

    def _check_notice(self) -> bool:
        try:
            notice = self._side.termination_notice()
            if notice is None:
                return False
            self._on_notice(notice)
        except (Exception, SystemExit) as error:
            self._log.debug(f"The termination notice of this instance cannot be read: {error}")
            return False
        return True
