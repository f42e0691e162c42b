"""A state folder that is deleted, renamed or replaced while it is in use is not created again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_tasks.errors import InputError
from cloud_tasks_local.private_files import StateFolder, StateFolderGoneError
from cloud_tasks_local.queue import SqliteQueue, queue_file

LEASE = timedelta(seconds=60)


def _rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def _replace(path: Path) -> None:
    _rename(path)
    path.mkdir()


def _rename_above(path: Path) -> None:
    path.parent.rename(path.parent.with_name("renamed"))


WAYS = [shutil.rmtree, _rename, _replace, _rename_above, lambda path: shutil.rmtree(path.parent)]


@pytest.mark.parametrize("spoil", WAYS)
def test_state_folder_is_created_once(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "project" / "state"
    state = StateFolder(path)
    state.make(path / "a" / "b")
    shutil.rmtree(path / "a")
    state.make(path / "a" / "b")
    assert (path / "a" / "b").stat().st_mode & 0o777 == 0o700
    spoil(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StateFolderGoneError):
        state.make(path / "a" / "b")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("spoil", WAYS)
@pytest.mark.parametrize("exists", [True, False])
def test_queue_is_not_created_in_a_new_state_folder(
    tmp_path: Path, exists: bool, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "project" / "state"
    file = queue_file(path, "q")
    if exists:
        SqliteQueue(file, lease=LEASE).create()
    queue = SqliteQueue(file, lease=LEASE)
    if not exists:
        queue.create()
    spoil(path)
    before = sorted(tmp_path.rglob("*"))
    for use in (queue.create, queue.claim):
        with pytest.raises(InputError) as failed:
            use()
        message = f"local.state_dir: {path} was deleted or renamed while it was in use; restore the folder"
        assert str(failed.value) == message
    assert sorted(tmp_path.rglob("*")) == before
    assert not queue.exists()
