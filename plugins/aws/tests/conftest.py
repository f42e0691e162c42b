"""Fixtures: EC2 as the overlay plays it, in a process of its own for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ec2_process import OverlayProcess, overlay_process

from cloud_tasks_aws.settings import AwsSettings


@pytest.fixture(scope="session")
def overlay_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverlayProcess]:
    with overlay_process(tmp_path_factory.mktemp("ec2"), ["--page-limit", "2"]) as process:
        yield process


@pytest.fixture
def overlay(overlay_server: OverlayProcess) -> Iterator[OverlayProcess]:
    """The overlay without faults and with everything in stock."""
    yield overlay_server
    overlay_server.tell("in-stock")
    overlay_server.tell("faults")


@pytest.fixture
def aws_settings(overlay: OverlayProcess) -> AwsSettings:
    return AwsSettings(endpoint_url=overlay.url, access_key="AKIDEXAMPLE", secret_key="secret")
