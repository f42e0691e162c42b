"""Settings of the ``azure:`` section for Service Bus."""

from __future__ import annotations

import attrs

from cloud_tasks.plugin import setting

__all__ = ["ServiceBusSettings"]


@attrs.frozen(kw_only=True)
class ServiceBusSettings:
    """Namespace of the queues, for ``azure.queue: servicebus``."""

    namespace_name: str | None = setting(
        help="Name or address of the Service Bus namespace of the queues",
        default=None,
        flag="--namespace-name",
        worker=True,
        locates=True,
    )
    servicebus_connection_string: str | None = setting(
        help="Connection string of the Service Bus namespace (default: azure-identity's credential chain)",
        default=None,
        env="AZURE_SERVICEBUS_CONNECTION_STRING",
        secret=True,
    )
