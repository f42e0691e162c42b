"""Fixtures: a dashboard that serves a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_jobs import at, completed, failed, make_job, started
from served import Served, serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job of three tasks: completed, failed and running."""
    events = [
        started("one", 1),
        completed("one", 3, elapsed=2.0, result={"sum": 42}),
        started("two", 3),
        failed("two", 4, message="no such star", printed="looking for stars"),
        started("three", 4),
    ]
    folder = tmp_path_factory.mktemp("jobs")
    make_job(folder, ["one", "two", "three"], events=events)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    """The folder, served one minute after the job started, for read-only tests."""
    with serve(folder, clock=lambda: at(60)) as found:
        yield found
