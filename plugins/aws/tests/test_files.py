"""Task files and results in S3, through fsspec and the extra ``files`` (s3fs)."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import boto3
import fsspec
import pytest
from missing import missing
from moto.server import ThreadedMotoServer

from cloud_tasks import builtin
from cloud_tasks.builtin import open_task_source, validate
from cloud_tasks.errors import InputError
from cloud_tasks.escape import file_name
from cloud_tasks.registry import Registry
from cloud_tasks.worker.task_process.result_store import store_result

TASKS = [{"task_id": f"task-{number}", "data": {"number": number}} for number in range(50)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if importlib.util.find_spec("s3fs") is None:
        missing("s3fs is not installed", how="pip install 'cloud-tasks-aws[files]'")
    variables = {
        "AWS_ACCESS_KEY_ID": "stand",
        "AWS_SECRET_ACCESS_KEY": "in",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="jobs")
    yield client
    # fsspec caches file systems with their endpoint for the whole process.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    client.close()


@pytest.fixture
def registry() -> Registry:
    return Registry(builtins=[("builtin", builtin)], only=[])


@pytest.mark.parametrize("name", ["tasks.json", "tasks.json.gz"])
def test_task_source_reads_s3(s3: Any, registry: Registry, tmp_path: Any, name: str) -> None:
    text = json.dumps(TASKS).encode()
    s3.put_object(Bucket="jobs", Key=name, Body=gzip.compress(text) if name.endswith(".gz") else text)
    with open_task_source(registry, f"s3://jobs/{name}", base_dir=tmp_path) as source:
        assert validate(source) == 50
        assert [task.task_id for task in source] == [task["task_id"] for task in TASKS]


def test_task_source_reports_missing_s3_file(s3: Any, registry: Registry, tmp_path: Any) -> None:
    with (
        pytest.raises(InputError, match=r"s3://jobs/none\.json: file not found"),
        open_task_source(registry, "s3://jobs/none.json", base_dir=tmp_path) as source,
    ):
        validate(source)


def test_store_result_writes_to_s3(s3: Any) -> None:
    url = store_result("s3://jobs/results/", "task 1", 2, b'{"answer": 42}', "json")
    name = file_name("task 1", ".2.json")
    assert url == f"s3://jobs/results/{name}"
    assert s3.get_object(Bucket="jobs", Key=f"results/{name}")["Body"].read() == b'{"answer": 42}'
