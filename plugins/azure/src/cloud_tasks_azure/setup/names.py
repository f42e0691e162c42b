"""Names and ids of what is set up in a subscription; the same for all its users.

Invariant, with a test: the name of the storage account depends on the subscription only, and is a valid one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import attrs

from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import SetupContext
from cloud_tasks_azure.credentials import subscription_id
from cloud_tasks_azure.permissions import WORKER_ROLE
from cloud_tasks_azure.settings import AzureSettings

__all__ = ["LABEL", "STAGING", "Names", "is_ours", "names_for"]

LABEL = "cloud-tasks-setup"
"""Tag of what setup made; the beginning of the description where there are no tags."""
STAGING = "staging"
_GROUP, _IDENTITY = "cloud-tasks", "cloud-tasks-worker"
_IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"
_DIGITS = 14
"""Digits of the digest in the name of a storage account, which has at most 24 characters."""


@attrs.frozen(kw_only=True)
class Names:
    """Names and resource ids."""

    subscription: str
    region: str
    group: str
    account: str
    identity_id: str
    """Managed identity of the instances: that of the settings, if there is one."""
    tags: Mapping[str, str]

    @property
    def scope(self) -> str:
        return f"/subscriptions/{self.subscription}"

    @property
    def group_id(self) -> str:
        return f"{self.scope}/resourceGroups/{self.group}"

    @property
    def identity(self) -> str:
        return self.identity_id.rpartition("/")[2]

    @property
    def has_own_identity(self) -> bool:
        """Whether the identity is one of the resource group."""
        return self.identity_id.lower().startswith(f"{self.group_id}/".lower())

    @property
    def account_id(self) -> str:
        return f"{self.group_id}/providers/Microsoft.Storage/storageAccounts/{self.account}"

    @property
    def role(self) -> str:
        """Name of the worker's role: names of roles are unique in all subscriptions of an organization."""
        return f"{WORKER_ROLE} {self.subscription[:8]}"

    def container_id(self, container: str) -> str:
        return f"{self.account_id}/blobServices/default/containers/{container}"


def names_for(settings: AzureSettings, context: SetupContext) -> Names:
    """Return the names for a subscription. Raises `InputError` if subscription or region is missing."""
    try:
        subscription = subscription_id(settings)
    except ProviderError as error:
        raise InputError(error.message, hint=error.hint) from error
    if not context.region:
        raise InputError(
            "no region is set",
            hint="set --region to the region of resource group and storage account, and of later jobs;"
            " list regions with: cloud-tasks list-regions --provider azure",
        )
    group = settings.resource_group or _GROUP
    own = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{_IDENTITIES}/{_IDENTITY}"
    identity, named = settings.managed_identity or "", settings.storage_account or ""
    digest = hashlib.sha256(subscription.lower().encode()).hexdigest()[:_DIGITS]
    return Names(
        subscription=subscription,
        region=context.region.lower(),
        group=group,
        account=named if re.fullmatch(r"[a-z0-9]{3,24}", named) else f"cloudtasks{digest}",
        identity_id=identity if identity.startswith("/") else own,
        tags={**settings.tags, LABEL: "1"},
    )


def is_ours(resource: Mapping[str, object]) -> bool:
    """Return whether setup made a resource."""
    tags = resource.get("tags")
    return isinstance(tags, Mapping) and LABEL in tags
