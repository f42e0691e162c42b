"""Checks of a Service Bus namespace, for ``doctor`` and before a run. Read-only: no queue is created."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cloud_tasks.plugin import CheckContext, Finding, QueueContext
from cloud_tasks.plugin.kit import Probe, run_probes
from cloud_tasks_azure.doctor_queue import ASSIGN, POLICY
from cloud_tasks_azure.servicebus.factory import open_service_bus
from cloud_tasks_azure.servicebus.settings import ServiceBusSettings

__all__ = ["check_queue"]


def check_queue(settings: ServiceBusSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for the namespace and for the workers' access to it."""
    name = settings.namespace_name
    show = f"az servicebus namespace show --name {name or 'NAMESPACE'} --resource-group GROUP"
    remedy = f"run: {show}; {ASSIGN} NAMESPACE-ID {POLICY}"
    yield from run_probes([Probe(subject="Service Bus", look=lambda: _namespace(settings), remedy=remedy)])
    script = "let the startup script export AZURE_SERVICEBUS_CONNECTION_STRING"
    if name is None:
        message = "instances do not get the connection string, and azure-servicebus.namespace_name is not set"
        remedy = f"set it and azure.managed_identity, or {script}"
    else:
        message, remedy = f"managed identity of azure.managed_identity, for {name}", f"without one, {script}"
    yield Finding(ok=True, subject="workers' access", message=message, remedy=remedy)


def _namespace(settings: ServiceBusSettings) -> str:
    # A queue that no job creates.
    context = QueueContext(name="cloud-tasks-doctor", job_id="", lease=timedelta(minutes=1))
    with open_service_bus(settings, context) as queue:
        queue.exists()
    return "queues can be looked up"
