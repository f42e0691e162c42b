"""Load, collect, reconcile, finish: a pure decision core (`decide`) in an imperative shell.

`cloud_tasks.controller.job` is the way in: it opens what a run needs and closes it again.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.state import Observation, Policy
from cloud_tasks.controller.controller import Controller, StopMode
from cloud_tasks.controller.messaging.progress import Progress

__all__ = ["Controller", "Observation", "Policy", "Progress", "StopMode", "decide"]
