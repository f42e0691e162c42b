"""Check of a Service Bus namespace, for ``doctor`` and before a run. Creates nothing."""

from __future__ import annotations

from datetime import timedelta

from cloud_tasks.plugin import QueueContext
from cloud_tasks.plugin.kit import Probe
from cloud_tasks_azure.servicebus.factory import open_service_bus
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["namespace_probe"]

_PROBE_QUEUE = "cloud-tasks-doctor"
"""Name of a queue that no job creates."""


def namespace_probe(settings: AzureSettings, assign: str, policy: str) -> Probe:
    """Return the check of the namespace.

    Args:
        assign: Start of the command that assigns the controller's role.
        policy: Command that prints the role.
    """

    def look() -> str:
        context = QueueContext(name=_PROBE_QUEUE, job_id="", lease=timedelta(minutes=1))
        with open_service_bus(settings, context) as queue:
            queue.exists()
        return "queues can be looked up"

    name = settings.namespace_name or "NAMESPACE"
    remedy = f"run: az servicebus namespace show --name {name} --resource-group GROUP; {assign} NAMESPACE-ID {policy}"
    return Probe(subject="Service Bus", look=look, remedy=remedy)
