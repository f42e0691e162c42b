"""Fixtures: a storage account for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azurite import Azurite, azurite_server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """The Azure Storage emulator azurite; tests of a session share its queues and its clock."""
    with azurite_server() as server:
        yield server
