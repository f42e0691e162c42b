"""Estimates of a job's duration and cost: the controller's own decisions on simulated instances."""

from __future__ import annotations

from cloud_tasks.estimate.cloud_model import CloudModel, SimulatedInstance
from cloud_tasks.estimate.durations import TaskDurations
from cloud_tasks.estimate.simulate import CostResult, CostSimulation

__all__ = [
    "CloudModel",
    "CostResult",
    "CostSimulation",
    "SimulatedInstance",
    "TaskDurations",
]
