"""Building blocks for providers, part of the plugin API.

Each is imported when it is first used, so a queue that workers open loads no code of the controller's side.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloud_tasks.plugin.boot_script import boot_script, insert_lines
    from cloud_tasks.plugin.kit.batched_queue import BatchedQueue, Received, RequestLimits
    from cloud_tasks.plugin.kit.batches import Refused, batched, retry_refused, send_bodies
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
    from cloud_tasks.plugin.kit.instance_side import (
        MetadataError,
        MetadataService,
        PolledInstanceSide,
        json_object,
        notice_time,
        read_json_file,
    )
    from cloud_tasks.plugin.kit.lease_table import Held, LeaseTable, since_boot
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
    from cloud_tasks.plugin.kit.probes import Probe, is_certain, run_probes

__all__ = [
    "BatchedQueue",
    "BodyStore",
    "ErrorKind",
    "ErrorRule",
    "FanOut",
    "Held",
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
    "insert_lines",
    "is_certain",
    "json_object",
    "judge",
    "matching_rule",
    "money_from_text",
    "money_to_text",
    "notice_time",
    "prices_from_json",
    "prices_to_json",
    "read_json_file",
    "refused",
    "retry_refused",
    "run_probes",
    "send_bodies",
    "since_boot",
    "translate_errors",
]

_MODULES = {
    "cloud_tasks.plugin.boot_script": ("boot_script", "insert_lines"),
    f"{__name__}.batched_queue": ("BatchedQueue", "Received", "RequestLimits"),
    f"{__name__}.batches": ("Refused", "batched", "retry_refused", "send_bodies"),
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
    f"{__name__}.probes": ("Probe", "is_certain", "run_probes"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value
