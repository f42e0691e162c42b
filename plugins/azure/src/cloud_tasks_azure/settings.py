"""The ``azure:`` section of the configuration."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting

__all__ = ["AzureSettings"]


@attrs.frozen(kw_only=True)
class AzureSettings:
    """How to reach Microsoft Azure, and as whom."""

    subscription_id: str | None = setting(
        help="The subscription that is charged",
        default=None,
        env="AZURE_SUBSCRIPTION_ID",
        flag="--subscription-id",
        worker=True,
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
    namespace_name: str | None = setting(
        help="The messaging namespace that holds the queues", default=None, flag="--namespace-name", worker=True
    )
    connection_string: str | None = setting(
        help="Connection string of the storage account that holds the queues",
        default=None,
        env="AZURE_STORAGE_CONNECTION_STRING",
        flag="--connection-string",
        secret=True,
    )
