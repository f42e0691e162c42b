"""Behavior that the contract does not cover."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest
from cloud_tasks_parameters.settings import DirectorySettings, GridSettings

from cloud_tasks.plugin import TaskSourceContext
from cloud_tasks.registry import Registry

REGISTRY = Registry(only=["parameters"])


def test_grid_of_millions_is_lazy(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text("[parameters]\na = { from = 1, to = 10000000 }\nb = [true, false]\n")
    backend, context = REGISTRY.task_source("toml-grid"), TaskSourceContext(location="g.toml", base_dir=tmp_path)
    with backend.open(GridSettings(max_tasks=20_000_000), context) as source:
        assert source.expected_length() == 20_000_000
        assert [task.data["b"] for task in itertools.islice(source, 3)] == [True, False, True]


def test_directory_skips_subfolders_without_recursive(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("one", "two", "below/three"):
        (tmp_path / name).touch()
    context = TaskSourceContext(location=str(tmp_path))
    with REGISTRY.task_source("directory").open(DirectorySettings(recursive=False), context) as source:
        assert [task.task_id for task in source] == ["one", "two"]


def test_directory_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    with REGISTRY.task_source("directory").open(
        DirectorySettings(), TaskSourceContext(location=str(tmp_path))
    ) as source:
        assert [task.task_id for task in source] == ["one"]


def test_settings_refuse_invalid_values() -> None:
    with pytest.raises(ValueError, match="must be 1 or more, got 0"):
        GridSettings(max_tasks=0)
    with pytest.raises(ValueError, match="empty"):
        DirectorySettings(pattern="")


@pytest.mark.parametrize("is_url", [False, True])
def test_grid_file_may_be_compressed_and_a_url(tmp_path: Path, is_url: bool) -> None:
    (tmp_path / "g.toml.gz").write_bytes(gzip.compress(b"[parameters]\na = [1, 2]\n"))
    location = f"file://{tmp_path}/g.toml.gz" if is_url else "g.toml.gz"
    context = TaskSourceContext(location=location, base_dir=tmp_path)
    with REGISTRY.task_source("toml-grid").open(GridSettings(), context) as source:
        assert [task.data for task in source] == [{"a": 1}, {"a": 2}]
