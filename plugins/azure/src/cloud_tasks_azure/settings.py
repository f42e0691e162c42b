"""Settings of the ``azure:`` section of the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from cloud_tasks.plugin import setting

__all__ = ["METADATA_URL", "AccountSettings", "AzureSettings"]

METADATA_URL = "http://169.254.169.254"


def _positive(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError("must be positive")


def _valid_queue(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value != "storage":
        raise ValueError("Service Bus is a queue of its own: set queue: azure-servicebus")


def _valid_tags(instance: object, attribute: attrs.Attribute[dict[str, str]], value: dict[str, str]) -> None:
    for name, text in value.items():
        if not re.fullmatch(r"[^<>%&\\?/]{1,512}", name) or len(text) > 256:
            raise ValueError(
                f'"{name}" is not valid: names have up to 512 characters without < > % & \\ ? /, values 256'
            )
    if len(value) > 30:
        raise ValueError("at most 30, since Azure allows 50 in all")


@attrs.frozen(kw_only=True)
class AccountSettings:
    """Settings that Azure's queues and Virtual Machines share: who signs in, and the names of queues."""

    tenant_id: str | None = setting(
        help="Tenant id of the application", default=None, env="AZURE_TENANT_ID", flag="--tenant-id"
    )
    client_id: str | None = setting(
        help="Client id of the application that signs in (default: azure-identity's credential chain)",
        default=None,
        env="AZURE_CLIENT_ID",
        flag="--client-id",
    )
    client_secret: str | None = setting(
        help="Client secret of the application",
        default=None,
        env="AZURE_CLIENT_SECRET",
        flag="--client-secret",
        secret=True,
    )
    queue_prefix: str = setting(
        help="Prefix of queue names",
        default="cloud-tasks-",
        worker=True,
        validator=attrs.validators.matches_re(r"([a-z0-9][a-z0-9-]{0,19})?"),
        locates=True,
    )


@attrs.frozen(kw_only=True)
class AzureSettings(AccountSettings):
    """Credentials, endpoints, queues, prices and instances of Microsoft Azure."""

    subscription_id: str | None = setting(
        help="Subscription id that is billed",
        default=None,
        env="AZURE_SUBSCRIPTION_ID",
        flag="--subscription-id",
        worker=True,
        asked=True,
    )
    # Queues
    queue: str = setting(
        help="Storage Queue: storage. Service Bus is the queue azure-servicebus",
        default="storage",
        validator=_valid_queue,
    )
    storage_account: str | None = setting(
        help="Name or URL of the storage account of the queues, unless a connection string is set",
        default=None,
        env="AZURE_STORAGE_ACCOUNT",
        worker=True,
        asked=True,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"[a-z0-9]{3,24}|https?://[^\s?]+")),
        locates=True,
    )
    connection_string: str | None = setting(
        help="Connection string of the storage account of the queues",
        default=None,
        env="AZURE_STORAGE_CONNECTION_STRING",
        flag="--connection-string",
        secret=True,
    )
    connection_string_file: Path | None = setting(
        help="File with the connection string of the storage account, readable by its owner only",
        default=None,
    )
    queue_threads: int = setting(
        help="Maximum concurrent calls per queue", default=16, worker=True, validator=_positive
    )
    queue_poll_seconds: float = setting(
        help="Maximum pause between two polls of an empty queue, in seconds; each poll is billed",
        default=2.0,
        worker=True,
        validator=_positive,
    )
    oversize_container: str | None = setting(
        help="Blob container of messages over 47 KiB, created when needed (empty: such messages are refused)",
        default="cloud-tasks",
        worker=True,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"([a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9])?")),
    )

    # Instances
    resource_group: str | None = setting(
        help="Existing resource group of the instances (default: one per job, deleted with it)",
        default=None,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"[-\w.()]{1,90}")),
        locates=True,
    )
    subnet: str | None = setting(
        help="Resource id of the instances' subnet (default: a network per job, deleted with it)",
        default=None,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"/subscriptions/[^/]+/.+/subnets/[^/]+")),
    )
    security_group: str | None = setting(
        help="Resource id of a network security group, with subnet (default: the subnet's)", default=None
    )
    nat_gateway: str | None = setting(
        help="Resource id of a NAT gateway for the job's network (default: the subnet's default outbound access)",
        default=None,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"/subscriptions/[^/]+/.+/natGateways/[^/]+")),
    )
    tags: dict[str, str] = setting(
        help="Further tags of groups, networks and instances", factory=dict, validator=_valid_tags
    )
    public_address: bool = setting(help="Whether instances get a public IPv4 address", default=False)
    managed_identity: str | None = setting(
        help="Resource id of the instances' managed identity, or system for a system-assigned one (default: none)",
        default=None,
        asked=True,
        validator=attrs.validators.optional(
            attrs.validators.matches_re(r"system|/subscriptions/[^/]+/.+/userAssignedIdentities/[^/]+")
        ),
    )
    admin_username: str = setting(help="Login name on instances", default="cloudtasks")
    ssh_public_key: str | None = setting(help="SSH public key for login to instances (default: no login)", default=None)
    operation_poll_seconds: float = setting(
        help="Interval between polls of a running operation, in seconds", default=3.0, validator=_positive
    )

    # Prices
    price_max_age_hours: float = setting(
        help="Maximum age of cached prices, in hours", default=24.0, validator=_positive
    )

    # Endpoints: for sovereign clouds, private endpoints and emulators
    queue_endpoint: str | None = setting(
        help="Endpoint URL of Storage Queue (default: the storage account's)", default=None, worker=True, locates=True
    )
    blob_endpoint: str | None = setting(
        help="Endpoint URL of Blob Storage (default: the storage account's)", default=None, worker=True
    )
    management_endpoint: str | None = setting(
        help="Endpoint URL of Azure Resource Manager (default: Azure)", default=None, locates=True
    )
    prices_endpoint: str = setting(help="Endpoint URL of the Retail Prices API", default="https://prices.azure.com")
    metadata_url: str = setting(
        help="URL of the instance metadata service",
        default=METADATA_URL,
    )
