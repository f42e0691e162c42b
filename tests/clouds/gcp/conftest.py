"""Shared fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pubsub_emulator import pubsub_emulator


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """Yield ``host:port`` of Google's Pub/Sub emulator, started once for all tests."""
    with pubsub_emulator() as address:
        yield address
