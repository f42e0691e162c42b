"""Registration of the queue ``azure-servicebus``. SDKs are imported when a queue is opened."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_tasks.plugin import QueueBackend, hookimpl
from cloud_tasks_azure.servicebus.settings import ServiceBusSettings
from cloud_tasks_azure.servicebus.traits import SERVICE_BUS_TRAITS

__all__ = ["cloud_tasks_register_queue"]


@hookimpl
def cloud_tasks_register_queue() -> Sequence[QueueBackend]:
    return (
        QueueBackend(
            name="azure-servicebus",
            summary="Azure Service Bus",
            settings=ServiceBusSettings,
            traits=SERVICE_BUS_TRAITS,
            open="cloud_tasks_azure.servicebus.factory:open_service_bus",
            check="cloud_tasks_azure.servicebus.doctor:check_queue",
        ),
    )
