"""Check of this machine as a provider."""

from __future__ import annotations

from pathlib import Path

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_local.settings import LocalSettings


def check(folder: Path) -> Finding:
    backend = Registry(only=["local"]).queue("local")
    assert backend.check is not None
    (found,) = backend.check(LocalSettings(state_dir=folder), CheckContext())
    return found


def test_check_accepts_a_state_folder_that_can_be_created_and_creates_none(tmp_path: Path) -> None:
    assert check(tmp_path / "a" / "b").ok
    assert check(tmp_path).ok
    assert list(tmp_path.iterdir()) == []


def test_check_refuses_a_state_folder_below_a_file_or_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        found = check(tmp_path / name / "state")
        assert (found.ok, found.prevents_run) == (False, True)
        assert found.message == f"{tmp_path / name} is not a folder"
        assert "--local-state-dir" in found.remedy
