"""The machine that the worker runs on: who it is, and whether it is about to be taken away.

Asked from a thread, for the answers may take seconds; a machine that cannot answer is no reason to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloud_tasks.worker.common.log import Log

if TYPE_CHECKING:
    from cloud_tasks.model import TerminationNotice
    from cloud_tasks.plugin import InstanceSide

__all__ = ["InstanceWatch"]

_IDENTITY_PATIENCE = 2.0


class InstanceWatch:
    """Asks an `InstanceSide` now and then.

    Args:
        interval: Seconds between two looks for a termination notice; fewer where the side says that they cost nothing.
        on_identity: Told the instance id, once.
        on_notice: Told of the termination notice, once. Both are called from the thread.
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
        self._interval = min(interval, getattr(side, "notice_interval", interval))
        self._on_identity = on_identity
        self._on_notice = on_notice
        self._log = log
        self._known = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="worker-machine", daemon=True)

    def start(self) -> None:
        """Start asking; waits a moment for the first answer, so that the first events can name the machine."""
        self._thread.start()
        self._known.wait(_IDENTITY_PATIENCE)

    def close(self) -> None:
        self._stop.set()

    def _serve(self) -> None:
        identified = noticed = False
        while not self._stop.is_set():
            if not identified:
                identified = self._identify()
            if not noticed:
                noticed = self._look()
            if identified and noticed:
                return
            self._stop.wait(self._interval)

    def _identify(self) -> bool:
        try:
            identity = self._side.identity()
        except Exception as error:
            self._log.debug(f"This machine cannot say who it is: {error}")
            self._known.set()
            return False
        self._on_identity(identity.instance_id)
        self._known.set()
        return True

    def _look(self) -> bool:
        try:
            notice = self._side.termination_notice()
        except Exception as error:
            self._log.debug(f"This machine cannot say whether it will be taken away: {error}")
            return False
        if notice is None:
            return False
        self._on_notice(notice)
        return True
