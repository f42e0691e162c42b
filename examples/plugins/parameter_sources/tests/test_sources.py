"""Tests beyond the contract: laziness, links, settings."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from cloud_tasks_parameters.settings import DirectorySettings, GridSettings

from cloud_tasks.plugin import TaskSourceContext
from cloud_tasks.registry import Registry

REGISTRY = Registry(only=["parameters"])


def test_grid_of_millions_of_tasks_is_opened_without_expanding_it(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text("[parameters]\na = { from = 1, to = 10000000 }\nb = [true, false]\n")
    backend, context = REGISTRY.task_source("grid"), TaskSourceContext(location="g.toml", base_dir=tmp_path)
    with backend.open(GridSettings(max_tasks=20_000_000), context) as source:
        assert source.expected_length() == 20_000_000
        assert [task.data["b"] for task in itertools.islice(source, 3)] == [True, False, True]


def test_directory_without_recursive_skips_sub_folders(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("one", "two", "below/three"):
        (tmp_path / name).touch()
    context = TaskSourceContext(location=str(tmp_path))
    with REGISTRY.task_source("directory").open(DirectorySettings(recursive=False), context) as source:
        assert [task.task_id for task in source] == ["one", "two"]


def test_directory_does_not_follow_links_to_folders(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    with REGISTRY.task_source("directory").open(
        DirectorySettings(), TaskSourceContext(location=str(tmp_path))
    ) as source:
        assert [task.task_id for task in source] == ["one"]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="0 is below 1"):
        GridSettings(max_tasks=0)
    with pytest.raises(ValueError, match="empty"):
        DirectorySettings(pattern="")
