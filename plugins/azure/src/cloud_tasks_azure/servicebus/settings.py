"""Settings of the ``azure-servicebus:`` section of the configuration."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting
from cloud_tasks_azure.settings import AccountSettings

__all__ = ["ServiceBusSettings"]


@attrs.frozen(kw_only=True)
class ServiceBusSettings(AccountSettings):
    """Credentials and namespace of queues on Service Bus."""

    namespace_name: str | None = setting(
        help="Name or address of the Service Bus namespace of the queues",
        default=None,
        flag="--namespace-name",
        worker=True,
        asked=True,
        locates=True,
    )
    connection_string: str | None = setting(
        help="Connection string of the Service Bus namespace (default: azure-identity's credential chain)",
        default=None,
        env="AZURE_SERVICEBUS_CONNECTION_STRING",
        secret=True,
    )
