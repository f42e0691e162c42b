"""Checks of Pub/Sub and the Billing Catalog."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks_gcp.doctor.account import Account, check_permissions, finding, open_account
from cloud_tasks_gcp.permissions import CONTROLLER_QUEUE
from cloud_tasks_gcp.queue.monitoring import MONITORING, backlog_query
from cloud_tasks_gcp.settings import GcpSettings

__all__ = ["check_pricing", "check_queue"]

PUBSUB = "pubsub.googleapis.com"
_ESSENTIAL = ("pubsub.subscriptions.create", "pubsub.topics.create")


def check_queue(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    """Check whether Pub/Sub is usable."""
    endpoint = _pubsub_endpoint(settings)
    account, findings = open_account(settings, endpoint)
    if account is None:
        return findings
    path = f"v1/projects/{account.project}/topics"
    findings.append(
        finding(
            "Pub/Sub API",
            lambda: account.request(endpoint, PUBSUB, lambda rest: rest.get(path, pageSize="1")),
            lambda _: f"enabled for project {account.project}",
        )
    )
    if not findings[-1].ok:
        return findings
    if context.launch is None and not account.skips(endpoint, settings.monitoring_endpoint):
        findings.append(_monitoring(account))
    if not account.skips(endpoint, settings.resource_manager_endpoint):
        findings.append(check_permissions(account, "permissions for queues", CONTROLLER_QUEUE, essential=_ESSENTIAL))
    return findings


def check_pricing(settings: GcpSettings, context: CheckContext) -> Iterable[Finding]:
    """Check whether the price list is readable."""
    from cloud_tasks_gcp.pricing.catalog import LIST, SERVICE

    account, findings = open_account(settings, settings.billing_endpoint)
    if account is None:
        return findings
    findings.append(
        finding(
            "Cloud Billing API",
            lambda: account.request(settings.billing_endpoint, SERVICE, lambda rest: rest.get(LIST, pageSize="1")),
            lambda _: "price list readable",
        )
    )
    return findings


def _monitoring(account: Account) -> Finding:
    """Check Cloud Monitoring, which only the depth of queues needs."""
    query = backlog_query(f"{account.settings.queue_prefix}doctor", datetime.now(UTC))
    path, endpoint = f"v3/projects/{account.project}/timeSeries", account.settings.monitoring_endpoint
    try:
        account.request(endpoint, MONITORING, lambda rest: rest.get(path, **query))
    except ProviderError as error:
        message = f"queue depth unavailable: {error.message}"
        return Finding(ok=True, subject="Cloud Monitoring API", message=message, remedy=error.hint)
    return Finding(ok=True, subject="Cloud Monitoring API", message="reports queue depth, some minutes old")


def _pubsub_endpoint(settings: GcpSettings) -> str:
    """Return the HTTP endpoint of Pub/Sub; empty for Google's own.

    The emulator's address has no scheme; its port serves both gRPC and HTTP.
    """
    endpoint = settings.pubsub_endpoint
    return endpoint if not endpoint or "://" in endpoint else f"http://{endpoint}"
