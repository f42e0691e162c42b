"""Place of a job: what decides where its queues and instances are may not change while it exists."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_commands import MemoryCommands

from cloud_tasks.config import load_config
from cloud_tasks.controller.setup.job_setup import JobInput, JobSetup
from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import LocationContext, setting
from cloud_tasks.store import Store


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of which two decide where things are."""

    account: str = setting(help="Account", default="", locates=True)
    folder: Path | None = setting(help="Folder", default=None, locates=True)
    limit: int = setting(help="Limit", default=1)


class Located(MemoryCommands):
    """Provider that says where it is."""

    def __init__(self) -> None:
        self.where: Mapping[str, str] | Exception = {"region": "east", "account": "1"}
        fields = {"settings": Settings, "locate": self._locate}
        super().__init__(queue=fields, compute=fields, pricing={"settings": Settings})

    def _locate(self, settings: Any, context: LocationContext) -> Mapping[str, str]:
        if isinstance(self.where, Exception):
            raise self.where
        return {**self.where, **({"region": context.region} if context.region else {})}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Located:
    monkeypatch.chdir(tmp_path)
    Path("tasks.json").write_text(json.dumps([{"task_id": "a", "data": {}}]), encoding="utf-8")
    commands = Located()
    assert commands.call("load-queue", "--job-id", "job", "--task-file", "tasks.json").code == 0
    return commands


RESUME = ("load-queue", "--job-id", "job", "--continue")
ELSEWHERE = [
    (("--region", "west"), 'queue region: the job was started with "east", and now has "west"'),
    (("--set", "memory.account=7"), 'memory.account: the job was started with the default, and now has "7"'),
    (("--set", "memory.folder=/x"), 'memory.folder: the job was started with the default, and now has "/x"'),
    (("--queue-name", "q"), 'queue_name: the job was started with "job", and now has "q"'),
]


@pytest.mark.parametrize(("options", "message"), ELSEWHERE)
@pytest.mark.parametrize("command", [RESUME, ("stop", "--job-id", "job")])
def test_job_in_another_place_is_refused_with_both_values(commands, command, options, message) -> None:
    before = Path("job.db").read_bytes()
    refused = commands.call(*command, *options)
    assert isinstance(refused.error, InputError)
    assert message in refused.error.message
    assert Path("job.db").read_bytes() == before


@pytest.mark.parametrize(("options", "message"), ELSEWHERE[1:])
def test_status_compares_what_needs_no_call(commands, options, message) -> None:
    refused = commands.call("status", "--job-id", "job", *options)
    assert isinstance(refused.error, InputError)
    assert message in refused.error.message
    commands.where = RuntimeError("asked")
    assert commands.call("status", "--job-id", "job").code == 0


def test_account_outside_of_the_configuration_is_compared(commands) -> None:
    commands.where = {"region": "east", "account": "2"}
    refused = commands.call(*RESUME)
    assert isinstance(refused.error, InputError)
    assert 'queue account: the job was started with "1", and now has "2"' in refused.error.message


@pytest.mark.parametrize("where", [ProviderError("no answer"), {}, {"region": "east"}, {"zone": "b", "region": "east"}])
def test_place_that_is_not_known_now_is_not_compared(commands, where) -> None:
    commands.where = where
    assert commands.call(*RESUME).code == 0


@pytest.mark.parametrize(
    "options", [("--set", "memory.limit=9"), ("--max-instances", "3"), ("--set", "memory.account=")]
)
def test_job_goes_on_with_other_limits(commands, options) -> None:
    assert commands.call(*RESUME, *options).code == 0


def alter(statement: str) -> None:
    with contextlib.closing(sqlite3.connect("job.db")) as connection, connection:
        connection.execute(statement)


def test_job_of_an_older_database_has_its_backends_only(commands) -> None:
    alter("UPDATE job SET place = '{}', queue = 'other', queue_name = 'job'")
    refused = commands.call(*RESUME)
    assert isinstance(refused.error, InputError)
    assert 'queue: the job was started with "other", and now has "memory"' in refused.error.message
    alter("UPDATE job SET queue = 'memory'")
    assert commands.call(*RESUME, "--region", "west").code == 0


@given(account=st.text(max_size=8), folder=st.text(max_size=8))
def test_recorded_place_holds_no_credentials(account: str, folder: str) -> None:
    from cloud_tasks.controller.setup.place import _text

    assert "secret" not in _text(f"https://user:secret@host/{folder}#{account}")


def test_task_file_with_credentials_is_neither_shown_nor_recorded(commands: Located, tmp_path: Path) -> None:
    with fsspec.open("memory://user:SECRETPW@host/tasks.json", "w") as file:
        file.write('[{"task_id": "a", "data": {}}]')
    url = "memory://user:SECRETPW@host/tasks.json"

    def load(*arguments: str) -> Any:
        done = commands.call("load-queue", "--job-id", "other", *arguments)
        assert "SECRETPW" not in f"{done.out}{done.err}{done.error}"
        return done

    missing = load("--task-file", "memory://user:SECRETPW@host/404.json?X-Amz-Signature=SECRETPW&token=SECRETPW")
    assert isinstance(missing.error, InputError)
    assert load("--task-file", url).code == 0
    assert b"SECRETPW" not in (tmp_path / "other.db").read_bytes()
    config = ("run", "--job-id", "other", "--continue", "--startup-script", "true", "--task-file")
    other = commands.call(*config, "memory://user:SECRETPW@host/b.json").error
    assert "are those of memory://host/tasks.json, not of memory://host/b.json" in str(other)


@pytest.mark.parametrize("written", ["t.json", "json:t.json", "./t.json"])
@pytest.mark.parametrize("recorded", [True, False])
def test_other_name_of_the_task_file_resumes_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, recorded: bool
) -> None:
    commands = MemoryCommands()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.json").write_text("[]")
    (tmp_path / "link.json").symlink_to("t.json")
    (tmp_path / "t.json").write_text('[{"id": "a", "data": {}}]')
    monkeypatch.chdir(tmp_path)
    assert commands.call("load-queue", "--job-id", "job", "--task-file", written).error is None
    if not recorded:
        with Store.open(Path("job.db")) as store:
            place = {key: value for key, value in store.job.place.items() if key != "task_source"}
            store.update_job(attrs.evolve(store.job, place=place))
    options = {"provider": "memory", "run.job_id": "job"}
    config = load_config(commands.registry, file=None, options=options, environ={})

    def check(task_file: str) -> None:
        given = JobInput(db_file=tmp_path / "job.db", task_file=task_file)
        with JobSetup(commands.registry, config, given, starts_instances=False, resume=True) as setup:
            setup.check_resumable()

    same = [
        "t.json",
        "./t.json",
        "json:t.json",
        "json:./t.json",
        str(tmp_path / "t.json"),
        "link.json",
        "sub/../t.json",
    ]
    for task_file in same:
        check(task_file)
    for task_file in ("sub/t.json", "https://t.json", "json:https://t.json", "-", "none.json", "grid:t=1", "t.json\0"):
        with pytest.raises(InputError, match=r"^--task-file: the tasks of the job are those of "):
            check(task_file)
    monkeypatch.chdir(tmp_path / "sub")
    check("../t.json")
