"""Paths of folders that will be created or written to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_tasks.folders import check_folder


@pytest.mark.parametrize("name", ["", "new", "new/below/it", "to_folder/new"])
def test_check_folder_accepts_what_exists_or_can_be_created(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "to_folder").symlink_to("folder")
    before = sorted(tmp_path.rglob("*"))
    check_folder(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/it", "link", "pipe/below"])
def test_check_folder_refuses_a_file_in_the_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for permissions in (True, False):
        with pytest.raises(ValueError, match=f"{tmp_path}/{name.partition('/')[0]} is not a folder"):
            check_folder(tmp_path / name, permissions=permissions)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 300, "name too long"),
        ("loop/x", "symbolic links"),
        ("nul\0", "null"),
        ("dangling", "dangling is a link to nothing"),
        ("dangling/below", "dangling is a link to nothing"),
    ],
)
def test_check_folder_refuses_an_impossible_path(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=f"(?i){reason}"):
        check_folder(tmp_path / name)


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o300])
def test_check_folder_refuses_a_folder_that_the_user_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=mode)
    # The superuser may do everything, so that the answer is that for another user.
    monkeypatch.setattr(os, "access", lambda path, wanted: folder.stat().st_mode >> 6 & wanted == wanted)
    with pytest.raises(ValueError, match="is not writable for this user"):
        check_folder(folder)
    check_folder(folder, permissions=False)


def test_check_folder_loads_the_standard_library_only() -> None:
    program = "import sys, cloud_tasks.folders; print('attrs' in sys.modules, 'asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]
