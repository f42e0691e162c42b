"""Estimates of a job's duration and cost: the controller's own decisions on simulated instances."""

from __future__ import annotations

from cloud_tasks.estimate.durations import TaskDurations
from cloud_tasks.estimate.simulate import CloudModel, CostResult, CostSimulation

__all__ = ["CloudModel", "CostResult", "CostSimulation", "TaskDurations"]
