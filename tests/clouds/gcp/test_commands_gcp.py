"""Listing, checking and cleanup commands on fakes of Google Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_commands import CommandsOfAProvider, Site
from gcp_job_folder import ACCOUNT, PROJECT, GcpJobFolder, gcp_job_folder


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory: pytest.TempPathFactory, emulator: str) -> Iterator[GcpJobFolder]:
    with gcp_job_folder(tmp_path_factory.mktemp("job_folder"), emulator=emulator) as job_folder:
        yield job_folder


class TestCommandsOfGoogleCloud(CommandsOfAProvider):
    @pytest.fixture
    def site(self, job_folder: GcpJobFolder, tmp_path: Path) -> Site:
        return Site(
            folder=tmp_path,
            sections={"provider": "gcp", "gcp": {"project_id": PROJECT, "service_account": ACCOUNT}},
            run={"region": "us-central1", "boot_disk_types": ["pd-standard"], "min_cpu": 4, "max_cpu": 8},
            environment=job_folder.environment,
            region="us-central1",
            zone="us-central1-a",
            image="debian",
            instance_type="e2-standard-8",
            counts_messages=False,
        )
