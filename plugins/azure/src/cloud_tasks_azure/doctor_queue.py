"""Whether the queues of a job can be used: the storage account, or the Service Bus namespace. Looks only.

Invariants, each with a test:

1. What is wrong is a finding with the command that mends it, never an exception.
2. No key and no connection string is in a finding.
3. Nothing is made: neither a queue nor a container.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cloud_tasks.errors import CloudTasksError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding, QueueContext
from cloud_tasks_azure.queue.failures import calling
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_queue"]

_ROLE = 'az role assignment create --assignee YOU --role "cloud-tasks controller" --scope'
_POLICY = "(the role: cloud-tasks doctor --provider azure --policy)"
_RETRIES = 1
_NOBODY = "cloud-tasks-doctor"
"""A queue that nobody makes."""


def check_queue(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """What was found about the service that carries the queues, and about how workers reach it."""
    if settings.queue == "servicebus":
        yield _service_bus(settings)
    else:
        account = _account(settings)
        yield account
        if account.ok and settings.oversize_container:
            yield _container(settings, settings.oversize_container)
    yield _workers(settings)


def _account(settings: AzureSettings) -> Finding:
    from cloud_tasks_azure.queue.account import queue_service

    subject = "storage account"
    name = settings.storage_account or "ACCOUNT"
    try:
        with queue_service(settings, connections=1) as service:
            with calling("listing queues"):
                pages = service.list_queues(
                    name_starts_with=settings.queue_prefix or None, results_per_page=1, retry_total=_RETRIES
                ).by_page()
                next(pages, None)
            return Finding(ok=True, subject=subject, message=f"queues can be listed in {service.account_name}")
    except ProviderError as error:
        if error.transient:
            remedy = f"az storage account create --name {name} --resource-group GROUP, or check the network"
        else:
            remedy = error.hint or f"{_ROLE} ACCOUNT-ID {_POLICY}"
        return Finding(ok=False, subject=subject, message=error.message, remedy=remedy)
    except CloudTasksError as error:
        return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint)


def _container(settings: AzureSettings, name: str) -> Finding:
    """A container that is not there yet is made with the first large message."""
    subject = "container for large messages"
    try:
        from cloud_tasks_azure.queue.account import blob_container

        with blob_container(settings, name, connections=1) as container, calling(f"looking for the container {name}"):
            container.get_container_properties(retry_total=_RETRIES)
    except ImportError:
        remedy = "pip install azure-storage-blob, or azure.oversize_container: ''"
        return Finding(ok=False, subject=subject, message="azure-storage-blob is not installed", remedy=remedy)
    except NotFoundError:
        return Finding(ok=True, subject=subject, message=f"{name} will be made when it is needed")
    except CloudTasksError as error:
        remedy = error.hint or f"{_ROLE} ACCOUNT-ID {_POLICY}"
        return Finding(ok=False, subject=subject, message=error.message, remedy=remedy)
    return Finding(ok=True, subject=subject, message=f"{name} is there")


def _service_bus(settings: AzureSettings) -> Finding:
    from cloud_tasks_azure.queue.servicebus_opening import open_service_bus

    subject = "Service Bus"
    # Its own errors tell of everything but the namespace's name being wrong.
    remedy = (
        f"az servicebus namespace show --name {settings.namespace_name or 'NAMESPACE'} --resource-group GROUP;"
        f" {_ROLE} NAMESPACE-ID {_POLICY}"
    )
    try:
        with open_service_bus(settings, QueueContext(name=_NOBODY, job_id="", lease=timedelta(minutes=1))) as queue:
            queue.exists()
    except CloudTasksError as error:
        return Finding(ok=False, subject=subject, message=error.message, remedy=error.hint or remedy)
    return Finding(ok=True, subject=subject, message="its queues can be looked up")


def _workers(settings: AzureSettings) -> Finding:
    """Connection strings are secrets, and are never sent to machines: workers have to get in by another way."""
    subject = "workers' access"
    if settings.queue == "servicebus":
        named, key, text = settings.namespace_name, "namespace_name", "AZURE_SERVICEBUS_CONNECTION_STRING"
    else:
        named = settings.storage_account or settings.queue_endpoint
        key, text = "storage_account", "AZURE_STORAGE_CONNECTION_STRING"
    if named is None:
        return Finding(
            ok=True,
            subject=subject,
            message=f"machines are not told the connection string, and azure.{key} is not set",
            remedy=f"set azure.{key} and azure.managed_identity, or let the startup script export {text}",
        )
    if settings.managed_identity is None:
        return Finding(
            ok=True,
            subject=subject,
            message=f"machines are told azure.{key}, and have no identity of Azure to get in with",
            remedy=f"set azure.managed_identity, or let the startup script export {text}",
        )
    return Finding(ok=True, subject=subject, message=f"by the managed identity, to {named}")
