"""Checks of the storage account of a job's queues, for ``doctor`` and before a run. Read-only.

Invariants, each with a test:

1. A problem is reported as a finding with the command that fixes it, never as an exception.
2. Keys and connection strings never appear in a finding.
3. Neither a queue nor a container is created.
"""

from __future__ import annotations

from collections.abc import Iterator

from cloud_tasks.errors import CloudTasksError, NotFoundError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import Probe, run_probes
from cloud_tasks_azure.queue.queue_errors import translate_errors
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["ASSIGN", "POLICY", "check_queue", "worker_access"]

ASSIGN = 'run: az role assignment create --assignee YOU --role "cloud-tasks controller" --scope'
POLICY = "(role definition: cloud-tasks doctor --provider azure --policy)"
_RETRIES = 1


def check_queue(settings: AzureSettings, context: CheckContext) -> Iterator[Finding]:
    """Yield the findings for the queue service and for the workers' access to it."""
    yield from run_probes(_probes(settings))
    yield worker_access(settings)


def _probes(settings: AzureSettings) -> Iterator[Probe]:
    remedy = f"{ASSIGN} ACCOUNT-ID {POLICY}"
    yield Probe(subject="storage account", look=lambda: _account(settings), remedy=remedy)
    container = settings.oversize_container
    if container:
        yield Probe(
            subject="container for large messages",
            look=lambda: _container(settings, container),
            remedy=remedy,
            needs=("storage account",),
            # Most jobs have no large message.
            prevents_run=False,
        )


def _account(settings: AzureSettings) -> str:
    from cloud_tasks_azure.queue.account import queue_service

    try:
        with queue_service(settings, connections=1) as service:
            with translate_errors("listing queues"):
                prefix = settings.queue_prefix or None
                found = service.list_queues(name_starts_with=prefix, results_per_page=1, retry_total=_RETRIES)
                next(found.by_page(), None)
            return f"queues can be listed in {service.account_name}"
    except ProviderError as error:
        if not error.transient:
            raise
        create = f"run: az storage account create --name {settings.storage_account or 'ACCOUNT'} --resource-group GROUP"
        raise ProviderError(error.message, transient=True, hint=f"{create}, or check the network") from error


def _container(settings: AzureSettings, name: str) -> str:
    """Check the container; a missing one is created with the first large message."""
    try:
        from cloud_tasks_azure.queue.account import blob_container

        with (
            blob_container(settings, name, connections=1) as container,
            translate_errors(f"checking the container {name}"),
        ):
            container.get_container_properties(retry_total=_RETRIES)
    except ImportError as error:
        hint = "run: pip install azure-storage-blob, or set azure.oversize_container: ''"
        raise CloudTasksError("azure-storage-blob is not installed", hint=hint) from error
    except NotFoundError:
        return f"{name} does not exist; created with the first large message"
    return f"{name} exists"


def worker_access(settings: AzureSettings) -> Finding:
    """Return how workers reach the queues: connection strings are secrets and are not sent to instances."""
    subject = "workers' access"
    named = settings.storage_account or settings.queue_endpoint
    script = "or let the startup script export AZURE_STORAGE_CONNECTION_STRING"
    if named is None:
        message = "instances do not get the connection string, and azure.storage_account is not set"
        remedy = f"set azure.storage_account and azure.managed_identity, {script}"
    elif settings.managed_identity is None:
        message = "instances get azure.storage_account, but azure.managed_identity is not set"
        remedy = f"set azure.managed_identity, {script}"
    else:
        message, remedy = f"managed identity, for {named}", ""
    return Finding(ok=True, subject=subject, message=message, remedy=remedy)
