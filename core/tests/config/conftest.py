"""Fixtures for tests of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from configuration_fakes import load

from cloud_tasks.config import JobConfig


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobConfig]:
    """Return a loader of a configuration, in a temporary current folder."""
    monkeypatch.chdir(tmp_path)
    loader: Callable[..., Any] = partial(load, folder=Path())
    return loader
