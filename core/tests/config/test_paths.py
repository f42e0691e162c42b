"""Relative paths: in the file to its folder, elsewhere to the current one, for each key."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from configuration_fakes import load, make_registry
from memory_commands import MemoryCommands

from cloud_tasks.cli.options.database import database_of
from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.plugin import Reach
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
