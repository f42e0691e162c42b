"""`json_schema` agrees with `load_config` and with the settings classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import yaml
from configuration_fakes import make_registry
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from cloud_tasks.config import JobConfig, RunSettings, json_schema
from cloud_tasks.errors import InputError

Read = Callable[..., JobConfig]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema(make_registry())


def test_json_schema_is_valid(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_json_schema_has_every_key_of_run_with_help_and_in_provider_sections(schema: dict[str, Any]) -> None:
    names = {field.name for field in attrs.fields(RunSettings)}
    run = schema["properties"]["run"]["properties"]
    assert set(run) == names
    assert all(run[name]["description"] for name in names)
    assert names < set(schema["properties"]["gcp"]["properties"])


def test_json_schema_of_a_key_has_type_bound_default_and_description(schema: dict[str, Any]) -> None:
    run = schema["properties"]["run"]["properties"]
    assert run["max_instances"] == {
        "type": ["integer", "null"],
        "minimum": 1,
        "description": "Maximum number of instances",
        "default": 10,
    }
    assert run["prefer"]["enum"] == ["price", "speed", "availability", None]
    assert run["job_id"]["pattern"] == "^[a-z][-a-z0-9]{0,23}$"


def test_json_schema_of_a_secret_is_write_only_without_a_default(schema: dict[str, Any]) -> None:
    secret = schema["properties"]["gcp"]["properties"]["secret_key"]
    assert secret["writeOnly"]
    assert "default" not in secret


ACCEPTED = [
    "provider: GCP\nrun:\n  architecture: X86_64\n  use_spot: true\n",
    "run:\n  instance_types: n1-.*\n  boot_disk_types: [pd-ssd]\n",
    "run:\n  max_instances:\n  min_cpu: 2\ngcp:\n  project_id: p\n  max_cpu: 3\n  launch_timeout: 3\n",
    "run:\n  retry: [{'on': exit, codes: [137], attempts: 5}]\n",
    "event_sinks: [jsonl]\ntask_source: tasks.json\nqueue: aws\n",
    "azure:\n  whatever: 1\n",
    "run:\n  max_runtime: 10m\n  idle_limit: 0\n  keepalive_timeout: 1h 30m\ngcp:\n  launch_timeout: 90s\n",
    "run:\n",
]
REFUSED = [
    "run:\n  min_cpus: 3\n",
    "gpc: {}\n",
    "run:\n  min_cpu: '3'\n",
    "run:\n  min_cpu: -3\n",
    "run:\n  use_spot: 1\n",
    "run:\n  job_id: My_Job\n",
    "run:\n  prefer: beauty\n",
    "run:\n  architecture: sparc\n",
    "run:\n  max_total_cost: 0\n",
    "run:\n  retry: [{'on': fire}]\n",
    "run:\n  retry: [{codes: [1]}]\n",
    "gcp:\n  public: 3\n",
    "provider: 7\n",
    "run:\n  max_runtime: 10 minits\n",
    "run:\n  max_runtime: -1\n",
    "run:\n  max_runtime: '600'\n",
    "gcp:\n  launch_timeout: soon\n",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_json_schema_accepts_a_valid_file(read: Read, schema: dict[str, Any], text: str) -> None:
    read(text)
    Draft202012Validator(schema).validate(yaml.safe_load(text))


@pytest.mark.parametrize("text", REFUSED)
def test_json_schema_refuses_a_malformed_file(read: Read, schema: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError):
        read(text)
    assert not Draft202012Validator(schema).is_valid(yaml.safe_load(text))


def test_json_schema_accepts_the_defaults(schema: dict[str, Any], read: Read) -> None:
    dumped = read(None).as_dict()
    Draft202012Validator(schema).validate({"run": dumped["run"]})
