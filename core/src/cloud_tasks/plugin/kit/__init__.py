"""Building blocks for providers, part of the plugin API.

Each is imported when it is first used, so a queue that workers open loads no code of the controller's side.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cloud_tasks.attribute_docs import show_attributes

if TYPE_CHECKING:
    from cloud_tasks.plugin.boot_script import boot_script, insert_lines
    from cloud_tasks.plugin.kit.async_bridge import AsyncBridge
    from cloud_tasks.plugin.kit.batched_queue import BatchedQueue, Received, RequestLimits
    from cloud_tasks.plugin.kit.batches import Refused, batched, retry_refused, send_bodies
    from cloud_tasks.plugin.kit.console import CONSOLE_BYTES, tail_of_file
    from cloud_tasks.plugin.kit.download_script import DOWNLOAD_FUNCTION, download_command
    from cloud_tasks.plugin.kit.ended_instances import ended_instance
    from cloud_tasks.plugin.kit.error_rules import (
        ErrorKind,
        ErrorRule,
        Problem,
        judge,
        matching_rule,
        refused,
        translate_errors,
    )
    from cloud_tasks.plugin.kit.fan_out import FanOut
    from cloud_tasks.plugin.kit.flat_pricing import FlatPricing
    from cloud_tasks.plugin.kit.images import ImageResolver, newest_images
    from cloud_tasks.plugin.kit.instance_side import (
        MetadataError,
        MetadataService,
        PolledInstanceSide,
        json_object,
        notice_time,
        read_json_file,
    )
    from cloud_tasks.plugin.kit.lease_table import Held, LeaseTable, since_boot
    from cloud_tasks.plugin.kit.names import safe_name
    from cloud_tasks.plugin.kit.oversize import BodyStore, OversizeQueue
    from cloud_tasks.plugin.kit.price_cache import (
        PriceCache,
        PriceFiles,
        Timestamped,
        money_from_text,
        money_to_text,
        prices_from_json,
        prices_to_json,
    )
    from cloud_tasks.plugin.kit.probes import DoubtError, Probe, is_certain, run_probes
    from cloud_tasks.plugin.kit.quotas import headroom_within

__all__ = [
    "CONSOLE_BYTES",
    "DOWNLOAD_FUNCTION",
    "AsyncBridge",
    "BatchedQueue",
    "BodyStore",
    "DoubtError",
    "ErrorKind",
    "ErrorRule",
    "FanOut",
    "FlatPricing",
    "Held",
    "ImageResolver",
    "LeaseTable",
    "MetadataError",
    "MetadataService",
    "OversizeQueue",
    "PolledInstanceSide",
    "PriceCache",
    "PriceFiles",
    "Probe",
    "Problem",
    "Received",
    "Refused",
    "RequestLimits",
    "Timestamped",
    "batched",
    "boot_script",
    "download_command",
    "ended_instance",
    "headroom_within",
    "insert_lines",
    "is_certain",
    "json_object",
    "judge",
    "matching_rule",
    "money_from_text",
    "money_to_text",
    "newest_images",
    "notice_time",
    "prices_from_json",
    "prices_to_json",
    "read_json_file",
    "refused",
    "retry_refused",
    "run_probes",
    "safe_name",
    "send_bodies",
    "since_boot",
    "tail_of_file",
    "translate_errors",
]

_MODULES = {
    "cloud_tasks.plugin.boot_script": ("boot_script", "insert_lines"),
    f"{__name__}.batched_queue": ("BatchedQueue", "Received", "RequestLimits"),
    f"{__name__}.batches": ("Refused", "batched", "retry_refused", "send_bodies"),
    f"{__name__}.ended_instances": ("ended_instance",),
    f"{__name__}.error_rules": (
        "ErrorKind",
        "ErrorRule",
        "Problem",
        "judge",
        "matching_rule",
        "refused",
        "translate_errors",
    ),
    f"{__name__}.fan_out": ("FanOut",),
    f"{__name__}.instance_side": (
        "MetadataError",
        "MetadataService",
        "PolledInstanceSide",
        "json_object",
        "notice_time",
        "read_json_file",
    ),
    f"{__name__}.lease_table": ("Held", "LeaseTable", "since_boot"),
    f"{__name__}.oversize": ("BodyStore", "OversizeQueue"),
    f"{__name__}.price_cache": (
        "PriceCache",
        "PriceFiles",
        "Timestamped",
        "money_from_text",
        "money_to_text",
        "prices_from_json",
        "prices_to_json",
    ),
    f"{__name__}.probes": ("DoubtError", "Probe", "is_certain", "run_probes"),
    f"{__name__}.names": ("safe_name",),
    f"{__name__}.quotas": ("headroom_within",),
    f"{__name__}.images": (
        "ImageResolver",
        "newest_images",
    ),
    f"{__name__}.flat_pricing": ("FlatPricing",),
    f"{__name__}.console": (
        "CONSOLE_BYTES",
        "tail_of_file",
    ),
    f"{__name__}.async_bridge": ("AsyncBridge",),
    f"{__name__}.download_script": ("DOWNLOAD_FUNCTION", "download_command"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __dir__() -> list[str]:
    """Return the exported names, which ``help()`` shows."""
    return list(__all__)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = show_attributes(getattr(importlib.import_module(_MODULE_OF[name]), name))
    return value
