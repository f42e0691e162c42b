"""Listing, checking and cleanup commands on the local provider."""

from __future__ import annotations

from pathlib import Path

import pytest
from cloud_commands import CommandsOfAProvider, Site


class TestCommandsOfLocal(CommandsOfAProvider):
    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        return Site(
            folder=tmp_path,
            sections={"provider": "local", "local": {"vcpus": 2, "shutdown_grace": 0.5}},
            run={},
            environment={},
            region="local",
            zone="local-a",
            image="machine",
            instance_type="local-2",
            is_rented=False,
        )
