"""Controller of a run: enqueues tasks, collects events, reconciles instances, and ends the run.

`cloud_tasks.controller.job.Job` is the entry point.
"""

from __future__ import annotations

from cloud_tasks.controller.autoscaler.decide import decide
from cloud_tasks.controller.autoscaler.state import Observation, Policy
from cloud_tasks.controller.controller import Controller, StopMode
from cloud_tasks.controller.messaging.progress import Progress

__all__ = ["Controller", "Observation", "Policy", "Progress", "StopMode", "decide"]
