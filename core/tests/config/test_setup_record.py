"""The record of `cloud-tasks setup` as the lowest layer of the configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_tasks.config import JobConfig, Layer, delete_record, read_record, write_record
from cloud_tasks.config.setup_record import record_file
from cloud_tasks.errors import InputError

Read = Callable[..., JobConfig]

IDENTITY = {"gcp.project_id": "ours"}
SETTINGS = {"run.staging": "gs://ours/staging", "gcp.service_account": "worker@ours"}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "settings")}
    assert write_record("gcp", environ, identity=IDENTITY, settings=SETTINGS) is not None
    return environ


def values(config: JobConfig) -> tuple[Any, ...]:
    section = config.values["gcp"]
    return (config.run.staging, section.get("project_id"), section.get("service_account"))


def test_recorded_values_apply_where_nothing_is_written(read: Read, home: dict[str, str], tmp_path: Path) -> None:
    config = read("provider: gcp\n", environ=home)
    assert values(config) == ("gs://ours/staging", "ours", "worker@ours")
    file = tmp_path / "settings" / "cloud-tasks" / "setup-gcp.json"
    assert str(config.origins["run.staging"]) == f"cloud-tasks setup ({file})"
    assert config.origins["run.staging"].layer is Layer.SETUP


@pytest.mark.parametrize(
    "written",
    [
        {"text": "provider: gcp\nrun: {staging: gs://mine/x}\n"},
        {"text": "provider: gcp\ngcp: {staging: gs://mine/x}\n"},
        {"text": "provider: gcp\n", "sets": ["run.staging=gs://mine/x"]},
        {"text": "provider: gcp\n", "environ": {"CLOUD_TASKS_RUN_STAGING": "gs://mine/x"}},
    ],
)
def test_recorded_value_replaces_no_written_one(read: Read, home: dict[str, str], written: dict[str, Any]) -> None:
    environ = {**home, **written.pop("environ", {})}
    config = read(written.pop("text"), environ=environ, **written)
    assert values(config) == ("gs://mine/x", "ours", "worker@ours")
    assert not config.overrides


@pytest.mark.parametrize("variables", [{}, {"CLOUD_TASKS_GCP_PROJECT_ID": "theirs"}])
def test_record_of_another_account_is_not_used(read: Read, home: dict[str, str], variables: dict[str, str]) -> None:
    text = "provider: gcp\n" if variables else "provider: gcp\ngcp: {project_id: theirs}\n"
    assert values(read(text, environ={**home, **variables})) == (None, "theirs", None)


def test_record_of_the_written_account_is_used(read: Read, home: dict[str, str]) -> None:
    config = read("provider: gcp\n", environ={**home, "CLOUD_TASKS_GCP_PROJECT_ID": "ours"})
    assert values(config) == ("gs://ours/staging", "ours", "worker@ours")


def test_recorded_region_gives_way_to_a_zone(read: Read, home: dict[str, str]) -> None:
    write_record("gcp", home, identity={}, settings={"run.region": "us-central1"})
    assert read("provider: gcp\n", environ=home).run.region == "us-central1"
    assert read("provider: gcp\nrun: {zone: europe-west4-a}\n", environ=home).run.region == "europe-west4"


def test_record_is_that_of_the_instances(read: Read, home: dict[str, str]) -> None:
    assert read("queue: gcp\ncompute: aws\n", environ=home).run.staging is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"identity": 1, "settings": {}}', '{"settings": {}}', "\xff"])
def test_damaged_record_is_one_line_with_a_remedy(read: Read, home: dict[str, str], content: str) -> None:
    record = read_record("gcp", home)
    assert record is not None
    record.file.write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as caught:
        read("provider: gcp\n", environ=home)
    assert str(caught.value).count("\n") == 0
    assert str(record.file) in str(caught.value)
    assert "cloud-tasks setup gcp" in str(caught.value)


def test_value_of_a_wrong_type_names_the_record(read: Read, home: dict[str, str]) -> None:
    record = read_record("gcp", home)
    assert record is not None
    record.file.write_text(json.dumps({"identity": {}, "settings": {"run.min_cpu": "many", "run.gone": 1, "x.y": 1}}))
    with pytest.raises(InputError, match=str(record.file)):
        read("provider: gcp\n", environ=home)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"CLOUD_TASKS_CONFIG_DIR": "/a", "XDG_CONFIG_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CONFIG_HOME": "/b", "HOME": "/c"}, "/b/cloud-tasks"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/c"}, "/c/.config/cloud-tasks"),
    ],
)
def test_record_file_is_in_the_folder_for_settings(environ: dict[str, str], folder: str) -> None:
    assert record_file("gcp", environ) == Path(folder) / "setup-gcp.json"


def test_record_needs_a_folder_for_settings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for environ in ({}, {"HOME": str(tmp_path / "file")}):
        assert write_record("gcp", environ, identity=IDENTITY, settings=SETTINGS) is None
        assert read_record("gcp", environ) is None
        delete_record("gcp", environ, identity=IDENTITY)


def test_delete_record_deletes_that_of_the_account_once(home: dict[str, str]) -> None:
    delete_record("gcp", home, identity={"gcp.project_id": "theirs"})
    assert read_record("gcp", home) is not None
    delete_record("gcp", home, identity=IDENTITY)
    delete_record("gcp", home, identity=IDENTITY)
    assert read_record("gcp", home) is None
