"""The domain model: frozen attrs classes without input, output or conversion.

A field without a default is required. Times are in UTC.
"""

from __future__ import annotations

from typing import Any

from cloud_tasks.attribute_docs import show_attributes
from cloud_tasks.model.bounds import Above, AtLeast
from cloud_tasks.model.constraints import (
    ConstraintInfo,
    Constraints,
    InstanceConstraints,
    Limits,
    constraint_info,
    pairs,
)
from cloud_tasks.model.event import TASK_FINAL_EVENTS, Event, EventType
from cloud_tasks.model.instance import (
    Architecture,
    BootDisk,
    Headroom,
    Image,
    Instance,
    InstanceIdentity,
    InstanceState,
    InstanceType,
    LaunchRequest,
    Offer,
    OfferRequest,
    PriceBreakdown,
    ProvisioningModel,
    Region,
    TerminationNotice,
    Unpriced,
)
from cloud_tasks.model.money import Money
from cloud_tasks.model.progress import JobPhase, JobProgress
from cloud_tasks.model.task import FINAL_STATUSES, MAX_ATTEMPT, AttemptOutcome, Task, TaskMessage, TaskStatus

__all__ = [
    "FINAL_STATUSES",
    "MAX_ATTEMPT",
    "TASK_FINAL_EVENTS",
    "Above",
    "Architecture",
    "AtLeast",
    "AttemptOutcome",
    "BootDisk",
    "ConstraintInfo",
    "Constraints",
    "Event",
    "EventType",
    "Headroom",
    "Image",
    "Instance",
    "InstanceConstraints",
    "InstanceIdentity",
    "InstanceState",
    "InstanceType",
    "JobPhase",
    "JobProgress",
    "LaunchRequest",
    "Limits",
    "Money",
    "Offer",
    "OfferRequest",
    "PriceBreakdown",
    "ProvisioningModel",
    "Region",
    "Task",
    "TaskMessage",
    "TaskStatus",
    "TerminationNotice",
    "Unpriced",
    "constraint_info",
    "pairs",
]

for _name in __all__:
    show_attributes(globals()[_name])
del _name


def __getattr__(name: str) -> Any:
    """Return a class by its former name, with a warning: accepted for one release."""
    if name == "Purchase":
        import warnings

        message = "cloud_tasks.model.Purchase is deprecated and will be removed in the next release: "
        warnings.warn(f"{message}renamed to ProvisioningModel", DeprecationWarning, stacklevel=2)
        return ProvisioningModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
