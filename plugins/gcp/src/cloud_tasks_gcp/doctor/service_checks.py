"""Checks of Pub/Sub and the Billing Catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import Probe
from cloud_tasks_gcp.doctor.checks import Checks
from cloud_tasks_gcp.permissions import CONTROLLER_QUEUE
from cloud_tasks_gcp.queue.monitoring import MONITORING, backlog_query
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["check_pricing", "check_queue"]

PUBSUB = "pubsub.googleapis.com"
_ESSENTIAL = ("pubsub.subscriptions.create", "pubsub.topics.create")


def check_queue(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    """Check whether Pub/Sub is usable."""
    # The emulator's address has no scheme; its port serves both gRPC and HTTP.
    endpoint = settings.pubsub_endpoint
    is_host = endpoint and "://" not in endpoint
    return _QueueChecks(settings, context, f"http://{endpoint}" if is_host else endpoint).findings()


def check_pricing(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    """Check whether the price list is readable."""
    return _PricingChecks(settings, context, settings.billing_endpoint).findings()


class _QueueChecks(Checks):
    def probes(self) -> Iterator[Probe]:
        yield self.probe("Pub/Sub API", self._list_topics)
        if self.failed:
            return
        if self.context.launch is None and self.has(self.settings.monitoring_endpoint):
            yield self.optional("Cloud Monitoring API", self._query_depth, skipped="queue depth unavailable")
        if self.has(self.settings.resource_manager_endpoint):
            yield self.optional(
                "permissions for queues", lambda: self.check_permissions(CONTROLLER_QUEUE, essential=_ESSENTIAL)
            )

    def _list_topics(self) -> str:
        path = f"v1/projects/{self.project}/topics"
        self.request(self.endpoint, PUBSUB, lambda rest: rest.get(path, pageSize="1"))
        return f"enabled for project {self.project}"

    def _query_depth(self) -> str:
        query = backlog_query(f"{self.settings.queue_prefix}doctor", datetime.now(UTC))
        path = f"v3/projects/{self.project}/timeSeries"
        self.request(self.settings.monitoring_endpoint, MONITORING, lambda rest: rest.get(path, **query))
        return "reports queue depth, some minutes old"


class _PricingChecks(Checks):
    def probes(self) -> Iterator[Probe]:
        yield self.probe("Cloud Billing API", self._read_prices)

    def _read_prices(self) -> str:
        from cloud_tasks_gcp.pricing.catalog import LIST, SERVICE

        self.request(self.endpoint, SERVICE, lambda rest: rest.get(LIST, pageSize="1"))
        return "price list readable"
