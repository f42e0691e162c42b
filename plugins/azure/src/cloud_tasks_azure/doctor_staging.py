"""Check of the staging: whether the controller can upload to it, and what instances need. Nothing is uploaded."""

from __future__ import annotations

import importlib.util
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError

from cloud_tasks.errors import CloudTasksError, InputError, NotFoundError
from cloud_tasks.plugin import CheckContext, StagingContext
from cloud_tasks_azure.queue.account import blob_container
from cloud_tasks_azure.queue.queue_errors import translate_errors
from cloud_tasks_azure.settings import AzureSettings
from cloud_tasks_azure.staging import for_account_of
from cloud_tasks_azure.traits import STAGING_SCHEMES

__all__ = ["check_staging"]


def check_staging(settings: AzureSettings, context: CheckContext) -> str:
    """Check container, permissions of the controller, and the identity of the instances."""
    place = StagingContext(url=f"{context.staging.rstrip('/')}/file")
    container, name = place.bucket_and_name(*STAGING_SCHEMES)
    if importlib.util.find_spec("adlfs") is None:
        raise InputError("adlfs is not installed", hint="run: pip install 'cloud-tasks-azure[files]'")
    own, container = for_account_of(settings, container)
    with blob_container(own, container, connections=1) as client:
        scope = f"{client.account_name}/{container}"
        try:
            with translate_errors(f"uploading to {scope}"):
                _upload_nothing(client, name)
        except NotFoundError as error:
            create = f"az storage container create --account-name {client.account_name} --name {container}"
            raise CloudTasksError(error.message, hint=f"run: {create} --auth-mode login") from error
    if settings.managed_identity is None:
        raise InputError(
            f"{scope} is writable, but instances without a managed identity cannot read it",
            hint="set azure.managed_identity to an identity with the worker's role (doctor --policy)",
        )
    identity = settings.managed_identity.rpartition("/")[2]
    return f"{scope} is writable; the identity {identity} needs the role Storage Blob Data Reader for it"


def _upload_nothing(client: Any, name: str) -> None:
    """Upload a blob on a condition that no blob fulfils: Azure checks it after the permission."""
    condition = {"etag": '"0x0"', "match_condition": MatchConditions.IfNotModified}
    try:
        client.upload_blob(name, b"", overwrite=True, retry_total=1, **condition)
    except ResourceModifiedError:
        return
