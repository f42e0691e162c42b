"""Cache folder of a user, of one without a home folder in particular."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from memory_commands import MemoryCommands

from cloud_tasks.cli.failures import describe_failure
from cloud_tasks.controller import cache_dir
from cloud_tasks.controller.setup import open_backends


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder for temporary files of a user who is in no database of users, and has no HOME."""

    def unknown(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("HOME", "XDG_CACHE_HOME", "CLOUD_TASKS_CACHE_DIR", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    open_backends._temporary_cache.cache_clear()
    yield tmp_path
    open_backends._temporary_cache.cache_clear()


def test_cache_of_a_user_without_home_is_a_private_temporary_folder(homeless: Path) -> None:
    folder = cache_dir()
    assert folder == homeless / f"cloud-tasks-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_cache_is_never_in_a_folder_that_another_user_has_planted(homeless: Path) -> None:
    (homeless / f"cloud-tasks-{os.getuid()}").symlink_to(homeless)
    assert cache_dir() is None


@pytest.mark.parametrize("command", ["plan", "list-instance-types", "list-running-instances", "cleanup", "doctor"])
def test_command_of_a_user_without_home_works(homeless: Path, command: str) -> None:
    Path("tasks.json").write_text('[{"task_id": "a", "data": {}}]', encoding="utf-8")
    more = ("--task-file", "tasks.json") if command == "plan" else ()
    answer = MemoryCommands().call(command, *more)
    assert answer.error is None, answer.err


def test_path_below_a_home_folder_that_does_not_exist_is_bad_input(homeless: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        MemoryCommands().call("status", "--db-file", "~/job.db")
    assert describe_failure(caught.value, []) == ("this user has no home folder; set HOME, or give paths without ~", 2)
