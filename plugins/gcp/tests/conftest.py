"""Shared fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from project_admin import ProjectAdmin, project_admin
from pubsub_emulator import pubsub_emulator

from cloud_tasks_gcp import rest
from cloud_tasks_gcp.setup import account


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """Yield ``host:port`` of Google's Pub/Sub emulator, started once; each test has its own queues or project."""
    with pubsub_emulator() as address:
        yield address


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProjectAdmin]:
    """Yield a fake project in which nothing is set up; its setup waits for milliseconds."""
    monkeypatch.setattr(account, "PAUSE", 0.001)
    monkeypatch.setattr(rest, "_PAUSE", 0.001)
    with project_admin() as project:
        yield project
