"""Relative paths: in the file to its folder, elsewhere to the current one, for each key."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result
from configuration_fakes import load, make_registry
from memory_commands import MemoryCommands
from store_facts import new_store

import cloud_tasks.builtin
from cloud_tasks.cli.context import AppContext
from cloud_tasks.cli.main import cli
from cloud_tasks.cli.options.database import database_of
from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.errors import InputError, PlaceError
from cloud_tasks.plugin import Reach
from cloud_tasks.registry import Registry
from cloud_tasks.testing import MemoryProvider

TASKS = '[{"task_id": "a", "data": {}}, {"task_id": "b", "data": {}}]'


@pytest.fixture
def sub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, below that of the file."""
    folder = tmp_path / "sub"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ["../config.yml", "{}/config.yml"])
def test_path_in_the_file_is_relative_to_its_folder(sub: Path, tmp_path: Path, name: str) -> None:
    text = "event_sinks: [sqlite]\ntask_source: tasks.json\nrun:\n  db_file: job.db\nsqlite:\n  file: events.sqlite\n"
    (tmp_path / "config.yml").write_text(text)
    config = load_config(make_registry(), file=Path(name.format(tmp_path)), options={}, environ={})
    assert config.settings_for("event_sink", "sqlite").file.resolve() == tmp_path / "events.sqlite"
    assert database_of(config).resolve() == tmp_path / "job.db"
    source, folder = config.task_source_of(None)
    assert (source, folder.resolve()) == ("tasks.json", tmp_path)
    assert config.task_source_of("other.json") == ("other.json", sub)


def test_path_elsewhere_is_relative_to_the_current_folder(sub: Path, tmp_path: Path) -> None:
    text = "event_sinks: [sqlite]\n"
    environ = {"CLOUD_TASKS_SQLITE_FILE": "events.sqlite"}
    config = load(text, folder=tmp_path, environ=environ, sets=["run.db_file=job.db", "task_source=tasks.json"])
    assert config.settings_for("event_sink", "sqlite").file == Path("events.sqlite")
    assert database_of(config) == Path("job.db")
    assert config.task_source_of(None) == ("tasks.json", sub)


def test_path_that_is_absolute_or_below_the_home_folder_is_unchanged(sub: Path, tmp_path: Path) -> None:
    for written in ("/nowhere/e.sqlite", "~/e.sqlite"):
        config = load(f"event_sinks: [sqlite]\nsqlite:\n  file: {written}\n", folder=tmp_path)
        assert config.settings_for("event_sink", "sqlite").file == Path(written)


def test_default_is_in_the_folder_of_the_file(sub: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("provider: gcp\nrun:\n  job_id: sums\ngcp:\n  project_id: mine\n")
    config = load_config(make_registry(), file=Path("../config.yml"), options={}, environ={})
    assert config.settings_for("compute", "gcp").folder == Path("../there")
    assert config.as_dict()["gcp"]["folder"] == "../there"
    assert database_of(config) == Path("../sums.db")
    # The instances do not have the folder.
    assert config.worker_environment()["CLOUD_TASKS_GCP_FOLDER"] == "there"


def test_default_without_a_file_is_in_the_current_folder(sub: Path) -> None:
    sets = ("provider=gcp", "run.job_id=sums", "gcp.project_id=mine")
    for file in (None, Path("/dev/null")):
        config = load_config(make_registry(), file=file, options={}, sets=sets, environ={})
        assert config.settings_for("compute", "gcp").folder == Path("there")
        assert database_of(config) == Path("sums.db")
        assert config.base_dir == sub


def local_call(*arguments: str) -> Result:
    """Run a command with the installed provider ``local``, with the configuration in the folder above."""
    obj = AppContext(registry=Registry(builtins=[("builtin", cloud_tasks.builtin)], only=("local",)))
    return CliRunner().invoke(cli, [*arguments, "--config", "../config.yml"], obj=obj, standalone_mode=False)


def test_commands_find_the_job_of_a_file_in_another_folder(
    sub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yml").write_text("provider: local\ntask_source: tasks.json\nrun:\n  job_id: sums\n")
    (tmp_path / "tasks.json").write_text(TASKS)
    loaded = local_call("load-queue")
    assert "database ../sums.db" in loaded.stdout
    assert list(sub.iterdir()) == []
    assert [row["visible"] for row in json.loads(local_call("show-queue", "--json").stdout)] == [2, 0]
    # From the folder of the file, and by another name of that folder.
    (tmp_path / "sub" / "link").symlink_to(tmp_path)
    for folder in (tmp_path / "third", tmp_path / "sub" / "link" / "fourth"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert [row["visible"] for row in json.loads(local_call("show-queue", "--json").stdout)] == [2, 0]
    monkeypatch.chdir(sub)
    elsewhere = ("--set", "local.state_dir=other")
    for command in ("show-queue", "purge-queue", "delete-queue", "list-running-instances"):
        refused = local_call(command, *elsewhere).exception
        assert isinstance(refused, PlaceError), command
        assert str(sub / "other") in str(refused)
    assert [row["existed"] for row in json.loads(local_call("delete-queue", "--force", "--json").stdout)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("command", ["load-queue", "status", "show-queue", "list-running-instances"])
def test_database_in_the_current_folder_is_named_instead_of_a_new_one(sub: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "config.yml").write_text("provider: local\ntask_source: tasks.json\nrun:\n  job_id: sums\n")
    (tmp_path / "tasks.json").write_text(TASKS)
    new_store(sub, ["a"], name="sums.db").close()
    refused = local_call(command).exception
    assert isinstance(refused, InputError)
    assert str(refused) == (
        "../sums.db: job sums has its database in the current folder, and not beside the configuration file; "
        "add --db-file sums.db to use it where it is; for a new job, add --db-file ../sums.db"
    )
    assert not (tmp_path / "sums.db").exists()
    assert local_call("config", "show").exception is None


def job_of_the_current_folder(sub: Path, tmp_path: Path) -> None:
    """Load a job as an earlier version did: its database and its state are in the current folder."""
    (tmp_path / "config.yml").write_text("provider: local\ntask_source: tasks.json\nrun:\n  job_id: sums\n")
    (tmp_path / "tasks.json").write_text(TASKS)
    loaded = local_call("load-queue", "--db-file", "sums.db", "--local-state-dir", ".cloud-tasks")
    assert loaded.exception is None


def test_job_in_the_current_folder_needs_no_option_but_its_database(sub: Path, tmp_path: Path) -> None:
    job_of_the_current_folder(sub, tmp_path)
    old = ("--db-file", "sums.db")
    assert [row["visible"] for row in json.loads(local_call("show-queue", *old, "--json").stdout)] == [2, 0]
    for command in (("status",), ("list-running-instances",), ("load-queue", "--continue"), ("stop", "--force")):
        assert local_call(*command, *old).exception is None, command
    # A value is not replaced.
    refused = local_call("show-queue", *old, "--local-state-dir", "other").exception
    assert isinstance(refused, PlaceError)
    assert not (tmp_path / ".cloud-tasks").exists()
    # The whole job was moved: nothing is created where it was.
    (sub / ".cloud-tasks").rename(sub / "moved")
    assert isinstance(local_call("show-queue", *old).exception, PlaceError)
    assert not (sub / ".cloud-tasks").exists()


@pytest.mark.parametrize("command", ["load-queue", "status", "show-queue", "stop"])
def test_database_that_was_moved_without_its_log_is_refused(sub: Path, tmp_path: Path, command: str) -> None:
    job_of_the_current_folder(sub, tmp_path)
    (sub / "sums.db-wal").write_bytes(b"latest")
    (sub / "sums.db").rename(tmp_path / "sums.db")
    refused = local_call(command).exception
    assert str(refused) == (
        "../sums.db: the database was moved without sums.db-wal, which has its latest changes; "
        "move it to ../sums.db-wal first; or delete it if it is of another job"
    )
    assert sorted(path.name for path in tmp_path.glob("sums.db*")) == ["sums.db"]


def test_plan_reads_the_task_source_beside_the_file(sub: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text(TASKS)
    (tmp_path / "my_tasks.py").write_text("def make():\n    yield {'task_id': 'one', 'data': {}}\n")
    commands = MemoryCommands()
    for source, number in (("tasks.json", 2), ("json:tasks.json", 2), ("my_tasks.py:make", 1), ("my_tasks:make", 1)):
        (tmp_path / "config.yml").write_text(f"task_source: {source}\nrun:\n  startup_script: 'true'\n")
        answer = commands.call("plan", "--config", "../config.yml", "--json")
        assert answer.error is None, source
        assert answer.data["tasks"] == number, source
    answer = commands.call("plan", "--config", "../config.yml", "--task-file", "tasks.json")
    assert str(answer.error) == "tasks.json: file not found; check the path of the task file"


def config_with(location: Reach, tmp_path: Path, text: str) -> JobConfig:
    provider = MemoryProvider()
    traits = attrs.evolve(provider.compute.traits, location=location)
    commands = MemoryCommands(provider=provider, compute={"traits": traits})
    (tmp_path / "config.yml").write_text(f"provider: memory\n{text}")
    return load_config(commands.registry, file=tmp_path / "config.yml", options={}, environ={})


@pytest.mark.parametrize("location", list(Reach))
@pytest.mark.parametrize("key", ["log_store", "result_store"])
def test_store_is_absolute_where_instances_share_files(sub: Path, tmp_path: Path, location: Reach, key: str) -> None:
    config = config_with(location, tmp_path, f"run:\n  {key}: results\n")
    assert config.store_of(key) == ("results" if location is Reach.NETWORK else str(tmp_path / "results"))
    url = config_with(location, tmp_path, f"run:\n  {key}: s3://bucket/x\n")
    assert url.store_of(key) == "s3://bucket/x"


@pytest.mark.parametrize("location", list(Reach))
@pytest.mark.parametrize("key", ["log_store", "result_store"])
def test_plan_warns_of_a_store_on_instances_elsewhere(tmp_path: Path, location: Reach, key: str) -> None:
    from cloud_tasks.cli.commands.job._trait_warnings import trait_warnings

    config = config_with(location, tmp_path, f"run:\n  {key}: /data/results\n")
    expected = (
        f'{tmp_path}/config.yml:3: run.{key}: "/data/results" is a folder of each instance of compute "memory", and '
        "ends with it; use a URL, or a folder that all instances mount"
    )
    assert list(trait_warnings(config)) == ([expected] if location is Reach.NETWORK else [])
    assert list(trait_warnings(config_with(location, tmp_path, f"run:\n  {key}: s3://bucket/x\n"))) == []
