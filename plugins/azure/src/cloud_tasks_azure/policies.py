"""Roles of controller and worker, in the format of ``az role definition create --role-definition @file``. Pure.

Invariants, each with a test:

1. A role is assignable in the configured subscription only.
2. A worker can delete instances but do nothing else to them, and use queues but not create or delete them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cloud_tasks.plugin import CheckContext
from cloud_tasks_azure.permissions import (
    Allowed,
    compute_actions,
    queue_allowed,
    url_allowed,
    worker_actions,
    worker_queue_allowed,
)
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["CONTROLLER_ROLE", "WORKER_ROLE", "policies"]

CONTROLLER_ROLE = "cloud-tasks controller"
WORKER_ROLE = "cloud-tasks worker"


def policies(settings: AzureSettings, context: CheckContext) -> Mapping[str, str]:
    """Return the role definitions by name; text in angle brackets is a placeholder for the user to replace."""
    stores, code = url_allowed(context.stores, write=True), url_allowed(context.downloads, write=True)
    return {
        "controller": _document(
            settings,
            CONTROLLER_ROLE,
            "Launches, lists and terminates the instances of jobs, and manages their queues",
            (Allowed(actions=compute_actions(settings)), queue_allowed(settings, context.queue), stores, code),
        ),
        "worker": _document(
            settings,
            WORKER_ROLE,
            "Runs the tasks of a job, and deletes its own instance at the end",
            (
                Allowed(actions=worker_actions()),
                worker_queue_allowed(settings, context.queue),
                stores,
                url_allowed(context.downloads, write=False),
            ),
        ),
    }


def _document(settings: AzureSettings, name: str, description: str, parts: Sequence[Allowed]) -> str:
    role: dict[str, Any] = {
        "Name": name,
        "IsCustom": True,
        "Description": description,
        "Actions": sorted({action for each in parts for action in each.actions}),
        "NotActions": [],
        "DataActions": sorted({action for each in parts for action in each.data_actions}),
        "NotDataActions": [],
        "AssignableScopes": [f"/subscriptions/{settings.subscription_id or '<SUBSCRIPTION>'}"],
    }
    return json.dumps(role, indent=2)
