"""Fixtures: a dashboard that serves a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_jobs import at, completed, failed, make_job, started
from served import Served, serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one job of three tasks: one completed, one failed, one runs."""
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
    """That folder, at a moment one minute after the job began; for tests that change nothing."""
    with serve(folder, clock=lambda: at(60)) as found:
        yield found
