"""Fixtures: a storage account for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azurite import Azurite, azurite_server

from cloud_tasks_azure.queue import account


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """The Azure Storage emulator azurite; tests of a session share its queues and its clock."""
    with azurite_server() as server:
        yield server


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many attempts of the storage SDK, in less time."""
    fast = {**account._RETRIES, "initial_backoff": 0, "increment_base": 0.1, "random_jitter_range": 0}
    monkeypatch.setattr(account, "_RETRIES", fast)
