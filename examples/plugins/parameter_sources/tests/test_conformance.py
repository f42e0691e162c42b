"""Conformance tests of both task sources."""

from __future__ import annotations

from pathlib import Path

import pytest
from cloud_tasks_parameters.settings import DirectorySettings, GridSettings

from cloud_tasks.model import Task
from cloud_tasks.plugin import TaskSourceContext
from cloud_tasks.registry import Registry
from cloud_tasks.testing import TaskSourceContract, TaskSourceSubject

# Discovered as installed, so that the entry point is tested too.
REGISTRY = Registry(only=["parameters"])

BROKEN_GRIDS = {
    "no_toml": "parameters = [",
    "no_grid": "",
    "no_parameters": "[parameters]\n",
    "misspelt": "[parameter]\na = [1]\n",
    "empty": "[parameters]\na = []\n",
    "twice": "[parameters]\na = [1, 1]\n",
    "no_range": "[parameters]\na = { from = 1 }\n",
    "endless": "[parameters]\na = { from = 1, to = 9, step = 0 }\n",
    "backwards": "[parameters]\na = { from = 9, to = 1 }\n",
    "date": "[parameters]\na = [2026-01-01]\n",
    "infinite": "[parameters]\na = [inf]\n",
    "too_many": "[parameters]\na = { from = 1, to = 1000 }\n",
}


class TestGrid(TaskSourceContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> TaskSourceSubject:
        (tmp_path / "a.grid.toml").write_text(
            '[parameters]\nmodel = ["fast", 2]\nseed = { from = 3, to = -1, step = -2 }\n'
        )
        for name, content in BROKEN_GRIDS.items():
            (tmp_path / name).write_text(content)
        expected = [("fast", 3), ("fast", 1), ("fast", -1), (2, 3), (2, 1), (2, -1)]
        return TaskSourceSubject(
            backend=REGISTRY.task_source("grid"),
            settings=GridSettings(id_prefix="study", max_tasks=999),
            context=TaskSourceContext(location="a.grid.toml", base_dir=tmp_path),
            expected=[
                Task(task_id=f"study-{number:06d}", data={"model": model, "seed": seed})
                for number, (model, seed) in enumerate(expected)
            ],
            broken=[TaskSourceContext(location=name, base_dir=tmp_path) for name in (*BROKEN_GRIDS, "not_there")],
        )


class TestDirectory(TaskSourceContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> TaskSourceSubject:
        for name in ("b.dat", "a.dat", "deep/er/c.dat", "left_out.txt", ".hidden.dat", ".git/d.dat"):
            (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "files" / name).write_text(name)
        return TaskSourceSubject(
            backend=REGISTRY.task_source("directory"),
            settings=DirectorySettings(pattern="*.dat"),
            context=TaskSourceContext(location="files", base_dir=tmp_path),
            expected=[
                Task(task_id=name, data={"path": str(tmp_path / "files" / name), "size_bytes": len(name)})
                for name in ("a.dat", "b.dat", "deep/er/c.dat")
            ],
            broken=[TaskSourceContext(location=name, base_dir=tmp_path) for name in ("nowhere", "files/a.dat")],
        )
