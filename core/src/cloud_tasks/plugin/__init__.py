"""The public surface for plugin authors: hooks, descriptors, traits, Protocols, settings, startup scripts.

A plugin imports from here, from `cloud_tasks.model` and from `cloud_tasks.errors`, and nowhere else.
"""

from __future__ import annotations

from cloud_tasks.plugin.boot_script import boot_script
from cloud_tasks.plugin.checks import CheckContext, Finding
from cloud_tasks.plugin.descriptors import (
    Backend,
    CommandDescriptor,
    ComputeBackend,
    ComputeContext,
    ComputeTraits,
    EventSinkBackend,
    EventSinkContext,
    InstanceContext,
    PricingBackend,
    PricingContext,
    QueueBackend,
    QueueContext,
    QueueTraits,
    TaskSourceBackend,
    TaskSourceContext,
)
from cloud_tasks.plugin.hooks import PROJECT_NAME, hookimpl
from cloud_tasks.plugin.protocols import (
    Compute,
    Delivery,
    Depth,
    EventSink,
    InstanceSide,
    Pricing,
    ProgressSink,
    Queue,
    SendFailure,
    TaskSource,
)
from cloud_tasks.plugin.settings import NoSettings, SettingInfo, setting, setting_info

__all__ = [
    "PROJECT_NAME",
    "Backend",
    "CheckContext",
    "CommandDescriptor",
    "Compute",
    "ComputeBackend",
    "ComputeContext",
    "ComputeTraits",
    "Delivery",
    "Depth",
    "EventSink",
    "EventSinkBackend",
    "EventSinkContext",
    "Finding",
    "InstanceContext",
    "InstanceSide",
    "NoSettings",
    "Pricing",
    "PricingBackend",
    "PricingContext",
    "ProgressSink",
    "Queue",
    "QueueBackend",
    "QueueContext",
    "QueueTraits",
    "SendFailure",
    "SettingInfo",
    "TaskSource",
    "TaskSourceBackend",
    "TaskSourceContext",
    "boot_script",
    "hookimpl",
    "setting",
    "setting_info",
]
