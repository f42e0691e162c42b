"""The ``azure:`` section of the configuration."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting

__all__ = ["AzureSettings"]


def _positive(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError("must be above zero")


@attrs.frozen(kw_only=True)
class AzureSettings:
    """How to reach Microsoft Azure, and as whom."""

    subscription_id: str | None = setting(
        help="The subscription that is charged",
        default=None,
        env="AZURE_SUBSCRIPTION_ID",
        flag="--subscription-id",
        worker=True,
        asked=True,
    )
    tenant_id: str | None = setting(
        help="The directory that the application belongs to", default=None, env="AZURE_TENANT_ID", flag="--tenant-id"
    )
    client_id: str | None = setting(
        help="The application that signs in; the environment's own credentials when not given",
        default=None,
        env="AZURE_CLIENT_ID",
        flag="--client-id",
    )
    client_secret: str | None = setting(
        help="The application's password", default=None, env="AZURE_CLIENT_SECRET", flag="--client-secret", secret=True
    )
    # Queues
    queue: str = setting(
        help="Which service carries the queues: storage (Storage Queue) or servicebus (Service Bus)",
        default="storage",
        worker=True,
        validator=attrs.validators.in_(("storage", "servicebus")),
    )
    storage_account: str | None = setting(
        help="Name or address of the storage account that holds the queues, where no connection string is given",
        default=None,
        env="AZURE_STORAGE_ACCOUNT",
        worker=True,
        asked=True,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"[a-z0-9]{3,24}|https?://[^\s?]+")),
    )
    connection_string: str | None = setting(
        help="Connection string of the storage account that holds the queues",
        default=None,
        env="AZURE_STORAGE_CONNECTION_STRING",
        flag="--connection-string",
        secret=True,
    )
    connection_string_file: str | None = setting(
        help="File with that connection string, of which nobody but its owner may have the rights", default=None
    )
    namespace_name: str | None = setting(
        help="Name or address of the Service Bus namespace that holds the queues",
        default=None,
        flag="--namespace-name",
        worker=True,
    )
    servicebus_connection_string: str | None = setting(
        help="Connection string of that namespace; the environment's own credentials when not given",
        default=None,
        env="AZURE_SERVICEBUS_CONNECTION_STRING",
        secret=True,
    )
    queue_prefix: str = setting(
        help="What the names of the queues begin with",
        default="cloud-tasks-",
        worker=True,
        validator=attrs.validators.matches_re(r"([a-z0-9][a-z0-9-]{0,19})?"),
    )
    queue_threads: int = setting(help="Most calls to a queue at once", default=16, worker=True, validator=_positive)
    queue_poll_seconds: float = setting(
        help="Longest pause between two looks of a consumer that waits for a message; each look is charged",
        default=2.0,
        worker=True,
        validator=_positive,
    )
    oversize_container: str | None = setting(
        help="Blob container for messages over 47 KiB, made when needed (empty: they are refused)",
        default="cloud-tasks",
        worker=True,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"([a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9])?")),
    )

    # Machines
    resource_group: str | None = setting(
        help="Existing resource group that machines are made in (default: one for each job, removed with it)",
        default=None,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"[-\w.()]{1,90}")),
    )
    subnet: str | None = setting(
        help="Resource id of a subnet for the machines (default: a network is made for each job, and removed with it)",
        default=None,
        validator=attrs.validators.optional(attrs.validators.matches_re(r"/subscriptions/[^/]+/.+/subnets/[^/]+")),
    )
    security_group: str | None = setting(
        help="Resource id of a network security group, with subnet (default: that of the subnet)", default=None
    )
    public_address: bool = setting(help="Whether machines get a public IPv4 address", default=False)
    managed_identity: str | None = setting(
        help="Resource id of the identity that machines work as, or system for one of their own (default: none)",
        default=None,
        asked=True,
        validator=attrs.validators.optional(
            attrs.validators.matches_re(r"system|/subscriptions/[^/]+/.+/userAssignedIdentities/[^/]+")
        ),
    )
    admin_username: str = setting(help="Login name on machines", default="cloudtasks")
    ssh_public_key: str | None = setting(
        help="Public key for logging in to machines (default: nobody can)", default=None
    )
    operation_poll_seconds: float = setting(
        help="Seconds between two looks at an operation that is under way", default=3.0, validator=_positive
    )

    # Prices
    price_max_age_hours: float = setting(
        help="Hours after which cached prices are fetched again", default=24.0, validator=_positive
    )

    # Where the services are: for sovereign clouds, private endpoints, and stand-ins
    queue_endpoint: str | None = setting(
        help="Address of Storage Queue, where the account has another one", default=None, worker=True
    )
    blob_endpoint: str | None = setting(
        help="Address of Blob Storage, where the account has another one", default=None, worker=True
    )
    management_endpoint: str | None = setting(help="Address of Azure Resource Manager", default=None)
    prices_endpoint: str = setting(help="Address of the Retail Prices API", default="https://prices.azure.com")
    metadata_url: str = setting(
        help="Address of the metadata service, asked on an instance",
        default="http://169.254.169.254",
    )
