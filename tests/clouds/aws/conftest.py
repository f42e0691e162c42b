"""Fixtures: the AWS fakes for the session, and a working folder for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_cloud import AwsCloud, AwsJobFolder, aws_cloud


@pytest.fixture(scope="session")
def cloud_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsCloud]:
    with aws_cloud(tmp_path_factory.mktemp("aws")) as cloud:
        yield cloud


@pytest.fixture
def cloud(cloud_server: AwsCloud) -> Iterator[AwsCloud]:
    """The AWS fakes without faults and with capacity for every type."""
    yield cloud_server
    cloud_server.overlay.control("faults")
    cloud_server.overlay.control("in-stock")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache folder of types and prices, shared by all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def job_folder(cloud: AwsCloud, cache: Path, tmp_path: Path) -> Iterator[AwsJobFolder]:
    job_folder = AwsJobFolder(tmp_path / "job_folder", cloud.environment(cache))
    yield job_folder
    job_folder.close()
