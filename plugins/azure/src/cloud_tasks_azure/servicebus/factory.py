"""Opening of a Service Bus queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import Queue, QueueContext
from cloud_tasks_azure.credentials import credential
from cloud_tasks_azure.queue.names import azure_name
from cloud_tasks_azure.servicebus.settings import ServiceBusSettings

__all__ = ["clients", "open_service_bus", "queue_with_clients"]

_INSTALL = "install it here and on the instances: pip install 'cloud-tasks-azure[azure-servicebus]'"


@contextmanager
def open_service_bus(settings: ServiceBusSettings, context: QueueContext) -> Iterator[Queue]:
    """Open the queue of a name, which need not exist yet."""
    client, administration = clients(settings)
    queue = queue_with_clients(client, administration, settings, context)
    try:
        yield queue
    finally:
        queue.close()


def queue_with_clients(client: Any, administration: Any, settings: ServiceBusSettings, context: QueueContext) -> Queue:
    """Return the queue on a `ServiceBusClient` and a `ServiceBusAdministrationClient`, and close both with it."""
    from azure.servicebus import ServiceBusSubQueue

    from cloud_tasks_azure.servicebus.administration import BusAdministration
    from cloud_tasks_azure.servicebus.links import ReceiveLink, SendLink
    from cloud_tasks_azure.servicebus.queue import ServiceBusQueue

    name = azure_name(settings.queue_prefix, context.name)

    def close() -> None:
        client.close()
        administration.close()

    return ServiceBusQueue(
        BusAdministration(client=administration, name=name, lease=context.lease),
        sending=SendLink(lambda: client.get_queue_sender(queue_name=name)),
        receiving=ReceiveLink(lambda: client.get_queue_receiver(queue_name=name)),
        dead_letters=ReceiveLink(
            lambda: client.get_queue_receiver(queue_name=name, sub_queue=ServiceBusSubQueue.DEAD_LETTER)
        ),
        close=close,
    )


def clients(settings: ServiceBusSettings) -> tuple[Any, Any]:
    try:
        from azure.servicebus import ServiceBusClient
        from azure.servicebus.management import ServiceBusAdministrationClient
    except ImportError as error:
        raise ProviderError("queue azure-servicebus: requires azure-servicebus", hint=_INSTALL) from error
    from cloud_tasks_azure.servicebus.administration import AdministrationTransport

    transport = AdministrationTransport()
    text = settings.connection_string
    if text is not None:
        try:
            administration = ServiceBusAdministrationClient.from_connection_string(text, transport=transport)
            return ServiceBusClient.from_connection_string(text), administration
        except ValueError:
            raise InputError("invalid connection string of the Service Bus namespace (not shown: secret)") from None
    name = settings.namespace_name
    if name is None:
        raise ProviderError(
            "no Service Bus namespace is configured",
            hint="set --namespace-name or azure-servicebus.namespace_name; list with: az servicebus namespace list",
        )
    address = name if "." in name else f"{name}.servicebus.windows.net"
    administration = ServiceBusAdministrationClient(address, credential(settings), transport=transport)
    return ServiceBusClient(address, credential(settings)), administration
