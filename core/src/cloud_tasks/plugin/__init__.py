"""Plugin API: hooks, descriptors, traits, Protocols, settings, startup scripts.

Plugins import from here, `cloud_tasks.plugin.kit`, `cloud_tasks.model` and `cloud_tasks.errors` only.
"""

from __future__ import annotations

from cloud_tasks.attribute_docs import show_attributes
from cloud_tasks.folders import check_folder
from cloud_tasks.plugin.account_setup import AccountSetup, SetupContext, SetupItem
from cloud_tasks.plugin.boot_guard import OWN_END
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
    LocationContext,
    PricingBackend,
    PricingContext,
    QueueBackend,
    QueueContext,
    QueueTraits,
    Reach,
    TaskSourceBackend,
    TaskSourceContext,
)
from cloud_tasks.plugin.downloads import Download, DownloadContext, StagingContext
from cloud_tasks.plugin.hooks import PROJECT_NAME, hookimpl
from cloud_tasks.plugin.protocols import (
    Compute,
    Delivery,
    Depth,
    EventSink,
    ImageLookup,
    ImageMaker,
    InstanceSide,
    LocatedCompute,
    NoticeTiming,
    OwnedQueue,
    Pricing,
    ProgressSink,
    Queue,
    QueueOwner,
    SendFailure,
    TaskSource,
)
from cloud_tasks.plugin.settings import NoSettings, SettingInfo, setting, setting_info
from cloud_tasks.plugin.task_files import open_binary, open_text
from cloud_tasks.plugin.terraform import TerraformBlock, TerraformExpression, terraform_text
from cloud_tasks.setting_values import Seconds

__all__ = [
    "OWN_END",
    "PROJECT_NAME",
    "AccountSetup",
    "Backend",
    "CheckContext",
    "CommandDescriptor",
    "Compute",
    "ComputeBackend",
    "ComputeContext",
    "ComputeTraits",
    "Delivery",
    "Depth",
    "Download",
    "DownloadContext",
    "EventSink",
    "EventSinkBackend",
    "EventSinkContext",
    "Finding",
    "ImageLookup",
    "ImageMaker",
    "InstanceContext",
    "InstanceSide",
    "LocatedCompute",
    "LocationContext",
    "NoSettings",
    "NoticeTiming",
    "OwnedQueue",
    "Pricing",
    "PricingBackend",
    "PricingContext",
    "ProgressSink",
    "Queue",
    "QueueBackend",
    "QueueContext",
    "QueueOwner",
    "QueueTraits",
    "Reach",
    "Seconds",
    "SendFailure",
    "SettingInfo",
    "SetupContext",
    "SetupItem",
    "StagingContext",
    "TaskSource",
    "TaskSourceBackend",
    "TaskSourceContext",
    "TerraformBlock",
    "TerraformExpression",
    "boot_script",
    "check_folder",
    "hookimpl",
    "open_binary",
    "open_text",
    "setting",
    "setting_info",
    "terraform_text",
]

for _name in __all__:
    show_attributes(globals()[_name])
del _name
