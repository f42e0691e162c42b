"""Check of this machine as a provider."""

from __future__ import annotations

from pathlib import Path

from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_local.settings import LocalSettings


def check(folder: Path) -> Finding:
    return found_by_check(LocalSettings(state_dir=folder))


def found_by_check(settings: LocalSettings) -> Finding:
    backend = Registry(only=["local"]).queue("local")
    assert backend.check is not None
    (found,) = backend.check(settings, CheckContext())
    return found


def test_check_accepts_a_state_folder_that_can_be_created_and_creates_none(tmp_path: Path) -> None:
    assert check(tmp_path / "a" / "b").ok
    assert check(tmp_path).ok
    assert list(tmp_path.iterdir()) == []


def test_check_refuses_a_state_folder_below_a_file_or_a_broken_link(tmp_path: Path) -> None:
    for name in ("file", "link"):
        # Since the configuration was read, which refuses such a folder, too.
        settings = LocalSettings(state_dir=tmp_path / name / "state")
        if name == "file":
            (tmp_path / name).write_text("x")
        else:
            (tmp_path / name).symlink_to(tmp_path / "nowhere")
        found = found_by_check(settings)
        assert (found.ok, found.prevents_run) == (False, True)
        problem = "is not a folder" if name == "file" else "is a link to nothing"
        assert found.message == f"{tmp_path / name} {problem}"
        assert "--local-state-dir" in found.remedy
