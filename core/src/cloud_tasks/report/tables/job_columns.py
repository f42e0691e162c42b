"""Columns of the tables that several forms of the report share."""

from __future__ import annotations

from cloud_tasks.store import TaskRecord, TypeCost
from cloud_tasks.tables import Column

__all__ = ["COST_COLUMNS", "SLOWEST_COLUMNS"]

COST_COLUMNS: tuple[Column[TypeCost], ...] = (
    Column(name="instance_type", title="Instance type", value=lambda cost: cost.instance_type),
    Column(name="purchase", title="Provisioning", value=lambda cost: cost.provisioning_model),
    Column(name="instances", title="Instances", value=lambda cost: cost.instances, align_right=True),
    Column(name="hours", title="Instance-hours", value=lambda cost: cost.hours, places=2, align_right=True),
    Column(name="cost_usd", title="Cost", value=lambda cost: cost.cost, places=4, align_right=True),
)
"""Cost by instance type and provisioning model."""

SLOWEST_COLUMNS: tuple[Column[TaskRecord], ...] = (
    Column(name="task_id", title="Task", value=lambda task: task.task_id),
    Column(name="seconds", title="Seconds", value=lambda task: task.elapsed_time, places=2, align_right=True),
    Column(name="hostname", title="Host", value=lambda task: task.hostname),
)
"""The slowest completed tasks."""
