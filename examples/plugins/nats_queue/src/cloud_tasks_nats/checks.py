"""Checks for ``cloud-tasks doctor`` and for the start of a run."""

from __future__ import annotations

from collections.abc import Iterator

from nats.aio.client import Client

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.plugin.kit import Probe, run_probes
from cloud_tasks_nats.connection import Server
from cloud_tasks_nats.settings import NatsSettings

__all__ = ["check"]


def check(settings: NatsSettings, context: CheckContext) -> Iterator[Finding]:
    """Implement `QueueBackend.check`."""
    server = Server(settings, "NATS server")

    async def look(client: Client) -> str:
        account = await client.jetstream().account_info()
        return f"version {client.connected_server_version}, {account.streams} streams, {account.storage:,} bytes stored"

    try:
        yield from run_probes([Probe(subject="NATS server", look=lambda: server.call(look))])
    finally:
        server.close()
