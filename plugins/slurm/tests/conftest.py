"""Fixtures: a cluster for the test run, settings in a folder per test, and the end of all jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Cluster, running_cluster

from cloud_tasks_slurm.settings import SlurmSettings


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """Return the cluster, which no job of the test outlives."""
    yield running
    running.cancel_all()


@pytest.fixture
def settings(cluster: Cluster, tmp_path: Path) -> SlurmSettings:
    return SlurmSettings(
        conf_file=cluster.configuration,
        partitions=("main",),
        spot_partitions=("scavenge",),
        output_dir=tmp_path / "output",
    )
