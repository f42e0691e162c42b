"""Fixtures: a storage account for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azurite import Azurite, azurite_server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azure Storage as azurite plays it; its queues are shared by the tests of a run, its clock too."""
    with azurite_server() as server:
        yield server
