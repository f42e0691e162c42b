"""Fixtures: a storage account for the session, Resource Manager for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from arm_fake import ArmFake
from azurite import Azurite, azurite_server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """The Azure Storage emulator azurite; tests of a session share its queues and its clock."""
    with azurite_server() as server:
        yield server


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[ArmFake]:
    """Resource Manager with an empty subscription."""
    with ArmFake(tmp_path / "arm") as fake:
        yield fake
