"""Startup scripts over the limit of user data."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import boto3
import pytest
from botocore.exceptions import ClientError
from ec2_launches import KEYS, RequestOf
from ec2_process import OverlayProcess

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.backend import open_compute
from cloud_tasks_aws.compute.large_scripts import LargeScripts
from cloud_tasks_aws.settings import AwsSettings


class _Bucket:
    """A client of S3 without the calls that a test replaces."""

    meta = SimpleNamespace(region_name="us-east-1")

    def head_bucket(self, **arguments: Any) -> Any:
        return {"ResponseMetadata": {"HTTPHeaders": {}}}

    def put_object(self, **arguments: Any) -> Any:
        return {"ETag": '"1"'}


def test_long_script_is_compressed_and_runs(compute: Compute, request_of: RequestOf) -> None:
    script = "#!/bin/bash\n" + "# repeated comment\n" * 5_000 + "echo arrived\n" + "sleep 600\n"
    launched = compute.launch(request_of(startup_script=script))
    eventually(lambda: "arrived" in compute.console_log(launched.instance_id))


def test_large_script_is_stored_in_s3_if_configured(
    overlay: OverlayProcess, aws_settings: AwsSettings, request_of: RequestOf, job: str
) -> None:
    s3 = boto3.client("s3", endpoint_url=overlay.url, region_name="us-east-1", **KEYS)
    s3.create_bucket(Bucket=job)
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
    script = f"#!/bin/bash\n# {noise}\necho arrived with ${{#BASH_SOURCE}} letters\nsleep 600\n"
    context = ComputeContext(job_id=job, region="us-east-1")
    with open_compute(aws_settings, context) as compute, pytest.raises(InputError, match="script_location"):
        compute.launch(request_of(startup_script=script))
    own = attrs.evolve(aws_settings, script_location=f"s3://{job}/scripts")
    with open_compute(own, context) as compute:
        launched = [compute.launch(request_of(startup_script=script)).instance_id for _ in range(2)]
        for each in launched:
            eventually(lambda each=each: "arrived" in compute.console_log(each))  # type: ignore[misc]
        assert len(s3.list_objects_v2(Bucket=job)["Contents"]) == 1
        compute.terminate(launched)
    assert "Contents" not in s3.list_objects_v2(Bucket=job)
    s3.close()


def test_loader_powers_off_when_the_download_fails(tmp_path: Path) -> None:
    class Nowhere(_Bucket):
        def generate_presigned_url(self, *arguments: Any, **named: Any) -> str:
            return "http://127.0.0.1:9/nothing"

    loader = LargeScripts(lambda region: Nowhere(), "s3://bucket").loader("#!/bin/bash\necho hello\n").decode()
    (tmp_path / "shutdown").write_text('#!/bin/sh\necho "off: $@"\n')
    (tmp_path / "shutdown").chmod(0o755)
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "sleep").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(["bash", "-c", loader], env=variables, capture_output=True, text=True, check=True)
    assert ended.stdout == "off: -h now\n"
    assert ended.stderr.startswith("cannot download http://127.0.0.1:9/nothing: ")


def test_loader_is_signed_again_after_reuse_period() -> None:
    class Signer(_Bucket):
        puts = 0
        signed = 0

        def put_object(self, **arguments: Any) -> Any:
            self.puts += 1
            return super().put_object(**arguments)

        def generate_presigned_url(self, *arguments: Any, **named: Any) -> str:
            self.signed += 1
            return f"http://127.0.0.1:9/{self.signed}"

    signer, now = Signer(), [1000.0]
    scripts = LargeScripts(lambda region: signer, "s3://bucket", clock=lambda: now[0])
    first = scripts.loader("#!/bin/sh\n")
    assert scripts.loader("#!/bin/sh\n") == first, "a repeated launch must have equal arguments"
    now[0] += 3600.0
    assert scripts.loader("#!/bin/sh\n") != first
    assert (signer.puts, signer.signed) == (1, 2)


@pytest.mark.parametrize("is_denied", [False, True])
def test_url_is_signed_for_the_region_of_the_bucket(is_denied: bool) -> None:
    answer: Any = {"ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}}

    class Elsewhere(_Bucket):
        def __init__(self, region: str | None) -> None:
            self.meta = SimpleNamespace(region_name=region or "us-east-1")

        def head_bucket(self, **arguments: Any) -> Any:
            if is_denied:
                error: Any = {"Error": {"Code": "403"}, **answer}
                raise ClientError(error, "HeadBucket")
            return answer

        def put_object(self, **arguments: Any) -> Any:
            assert "ServerSideEncryption" not in arguments, "buckets may demand another one"
            return super().put_object(**arguments)

        def generate_presigned_url(self, *arguments: Any, **named: Any) -> str:
            return f"https://bucket/{self.meta.region_name}"

        def close(self) -> None:
            """Nothing is open."""

    assert b"https://bucket/eu-west-1" in LargeScripts(Elsewhere, "s3://bucket").loader("#!/bin/sh\n")
