"""Checks of a job's queues, for ``doctor`` and before a run: storage account, Service Bus namespace. Read-only.

Invariants, each with a test:

1. A problem is reported as a finding with the command that fixes it, never as an exception.
2. Keys and connection strings never appear in a finding.
3. Neither a queue nor a container is created.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cloud_tasks.errors import CloudTasksError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding, QueueContext
from cloud_tasks_azure.queue.queue_errors import translate_errors
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["check_queue"]

_ROLE = 'run: az role assignment create --assignee YOU --role "cloud-tasks controller" --scope'
_POLICY = "(role definition: cloud-tasks doctor --provider azure --policy)"
_RETRIES = 1
_PROBE_QUEUE = "cloud-tasks-doctor"
"""Name of a queue that no job creates."""


def check_queue(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for the queue service and for the workers' access to it."""
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
            with translate_errors("listing queues"):
                pages = service.list_queues(
                    name_starts_with=settings.queue_prefix or None, results_per_page=1, retry_total=_RETRIES
                ).by_page()
                next(pages, None)
            return Finding(ok=True, subject=subject, message=f"queues can be listed in {service.account_name}")
    except ProviderError as error:
        if error.transient:
            remedy = f"run: az storage account create --name {name} --resource-group GROUP, or check the network"
        else:
            remedy = error.hint or f"{_ROLE} ACCOUNT-ID {_POLICY}"
        return _unusable(subject, error, remedy)
    except CloudTasksError as error:
        return _unusable(subject, error, error.hint)


def _unusable(subject: str, error: CloudTasksError, remedy: str) -> Finding:
    """Return the finding of an error. A run makes the same calls."""
    is_certain = not (isinstance(error, ProviderError) and error.transient)
    return Finding(ok=False, subject=subject, message=error.message, remedy=remedy, prevents_run=is_certain)


def _container(settings: AzureSettings, name: str) -> Finding:
    """Check the container; a missing one is created with the first large message."""
    subject = "container for large messages"
    try:
        from cloud_tasks_azure.queue.account import blob_container

        with (
            blob_container(settings, name, connections=1) as container,
            translate_errors(f"checking the container {name}"),
        ):
            container.get_container_properties(retry_total=_RETRIES)
    except ImportError:
        remedy = "run: pip install azure-storage-blob, or set azure.oversize_container: ''"
        return Finding(ok=False, subject=subject, message="azure-storage-blob is not installed", remedy=remedy)
    except NotFoundError:
        return Finding(ok=True, subject=subject, message=f"{name} does not exist; created with the first large message")
    except CloudTasksError as error:
        remedy = error.hint or f"{_ROLE} ACCOUNT-ID {_POLICY}"
        return Finding(ok=False, subject=subject, message=error.message, remedy=remedy)
    return Finding(ok=True, subject=subject, message=f"{name} exists")


def _service_bus(settings: AzureSettings) -> Finding:
    from cloud_tasks_azure.queue.servicebus_factory import open_service_bus

    subject = "Service Bus"
    # The errors themselves cover everything but a wrong namespace name.
    remedy = (
        f"run: az servicebus namespace show --name {settings.namespace_name or 'NAMESPACE'} --resource-group GROUP;"
        f" {_ROLE} NAMESPACE-ID {_POLICY}"
    )
    try:
        context = QueueContext(name=_PROBE_QUEUE, job_id="", lease=timedelta(minutes=1))
        with open_service_bus(settings, context) as queue:
            queue.exists()
    except CloudTasksError as error:
        return _unusable(subject, error, error.hint or remedy)
    return Finding(ok=True, subject=subject, message="queues can be looked up")


def _workers(settings: AzureSettings) -> Finding:
    """Check the workers' access: connection strings are secrets and are not sent to instances."""
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
            message=f"instances do not get the connection string, and azure.{key} is not set",
            remedy=f"set azure.{key} and azure.managed_identity, or let the startup script export {text}",
        )
    if settings.managed_identity is None:
        return Finding(
            ok=True,
            subject=subject,
            message=f"instances get azure.{key}, but azure.managed_identity is not set",
            remedy=f"set azure.managed_identity, or let the startup script export {text}",
        )
    return Finding(ok=True, subject=subject, message=f"managed identity, for {named}")
