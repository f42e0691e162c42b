"""Commands that list, query or clean up, against the AWS fakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from aws_cloud import PROFILE, REGION, AwsCloud
from cloud_commands import CommandsOfAProvider, Site


class TestCommandsOfAws(CommandsOfAProvider):
    @pytest.fixture
    def site(self, tmp_path: Path, cloud: AwsCloud, cache: Path) -> Site:
        return Site(
            folder=tmp_path,
            sections={"provider": "aws", "aws": {"instance_profile": PROFILE}},
            run={"region": REGION, "boot_disk_types": ["gp3"], "instance_types": ["^t3\\..*", "^m5\\..*"]},
            environment=cloud.environment(cache),
            region=REGION,
            zone="us-east-1a",
            image="ubuntu",
            instance_type="m5.large",
            burstable=r"^t\d",
            address="0.005",
        )
