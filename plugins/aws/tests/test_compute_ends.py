"""Ends of an instance without a controller, on the EC2 fake."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from ec2_launches import RequestOf
from ec2_process import overlay_process

from cloud_tasks.plugin import ComputeContext
from cloud_tasks.testing import eventually
from cloud_tasks_aws.compute.backend import open_compute
from cloud_tasks_aws.settings import AwsSettings


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/bash\necho apt fails\nexit 1\n", "the startup script ended, and no worker runs"),
        ("#!/usr/bin/env python3\nimport nowhere\n", "the startup script ended, and no worker runs"),
        ("#!/bin/bash\nsleep 600\n", "no worker started within 1 s"),
    ],
)
def test_instance_without_a_worker_terminates_itself(
    script: str,
    reason: str,
    request_of: RequestOf,
    context: ComputeContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLOUD_TASKS_BOOT_GRACE", "1")
    with overlay_process(tmp_path) as overlay:
        settings = AwsSettings(endpoint_url=overlay.url, access_key="AKIDEXAMPLE", secret_key="secret")
        with open_compute(settings, context) as compute:
            request = request_of(startup_script=script, startup_timeout=timedelta(seconds=1))
            instance_id = compute.launch(request).instance_id
            eventually(lambda: compute.instances(context.job_id) == ())
            # The shell of the script may report afterwards that the script was terminated.
            assert f"cloud-tasks: {reason}; this instance ends" in compute.console_log(instance_id).splitlines()
