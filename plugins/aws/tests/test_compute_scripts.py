"""Startup scripts that do not fit into user data."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import attrs
import boto3
import pytest
from ec2_launches import KEYS, RequestOf
from ec2_process import OverlayProcess

from cloud_tasks.errors import InputError
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.large_scripts import LargeScripts
from cloud_tasks_aws.compute.opening import open_compute
from cloud_tasks_aws.settings import AwsSettings


def test_a_script_can_be_longer_than_user_data(compute: Compute, request_of: RequestOf) -> None:
    script = "#!/bin/bash\n" + "# said again and again\n" * 5_000 + "echo arrived\n" + "sleep 600\n"
    launched = compute.launch(request_of(startup_script=script))
    eventually(lambda: "arrived" in compute.console_log(launched.instance_id))


def test_a_script_that_is_longer_still_goes_by_way_of_s3_where_a_place_is_set(
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


def test_an_instance_that_cannot_fetch_its_script_switches_itself_off(tmp_path: Path) -> None:
    class Nowhere:
        def put_object(self, **arguments: Any) -> None:
            """Nothing is kept."""

        def generate_presigned_url(self, *arguments: Any, **named: Any) -> str:
            return "http://127.0.0.1:9/nothing"

    starter = LargeScripts(Nowhere, "s3://bucket").starter("#!/bin/bash\necho hello\n").decode()
    (tmp_path / "shutdown").write_text('#!/bin/sh\necho "off: $@"\n')
    (tmp_path / "shutdown").chmod(0o755)
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(["bash", "-c", starter], env=variables, capture_output=True, text=True, check=True)
    assert ended.stdout == "off: -h now\n"


def test_no_instance_is_given_an_address_that_was_signed_long_ago() -> None:
    class Signer:
        puts = 0
        signed = 0

        def put_object(self, **arguments: Any) -> None:
            self.puts += 1

        def generate_presigned_url(self, *arguments: Any, **named: Any) -> str:
            self.signed += 1
            return f"http://127.0.0.1:9/{self.signed}"

    signer, now = Signer(), [1000.0]
    scripts = LargeScripts(lambda: signer, "s3://bucket", clock=lambda: now[0])
    first = scripts.starter("#!/bin/sh\n")
    assert scripts.starter("#!/bin/sh\n") == first, "a launch that is repeated asks for the same thing"
    now[0] += 3600.0
    assert scripts.starter("#!/bin/sh\n") != first
    assert (signer.puts, signer.signed) == (1, 2)
