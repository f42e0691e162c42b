"""What there is: types, quotas, listings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import pytest
from ec2_launches import RequestOf
from ec2_process import OverlayProcess

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.opening import open_compute
from cloud_tasks_aws.settings import AwsSettings


def test_a_second_look_at_the_types_asks_nobody(
    overlay: OverlayProcess, aws_settings: AwsSettings, tmp_path: Path
) -> None:
    context = ComputeContext(job_id="", region="us-east-1", cache_dir=tmp_path / "cache")
    with open_compute(aws_settings, context) as compute:
        first = compute.instance_types()
    calls = overlay.state()["calls"]
    with open_compute(aws_settings, context) as compute:
        assert compute.instance_types() == first
    assert overlay.state()["calls"] == calls
    other = attrs.evolve(aws_settings, access_key="AKIDOTHER")
    with open_compute(other, context) as compute:
        assert compute.instance_types() == first
    assert overlay.state()["calls"] > calls, "another account's answer was taken for this one's"


def test_a_cache_that_is_old_or_broken_counts_as_none(
    overlay: OverlayProcess, aws_settings: AwsSettings, tmp_path: Path
) -> None:
    context = ComputeContext(job_id="", region="us-east-1", cache_dir=tmp_path)

    def look() -> int:
        before = overlay.state()["calls"]
        with open_compute(aws_settings, context) as compute:
            assert len(compute.instance_types()) > 50
        return int(overlay.state()["calls"] - before)

    assert look() > 0
    (file,) = tmp_path.iterdir()
    for content in ("{", "[]", '{"types": 7, "zones": {}}'):
        file.write_text(content)
        assert look() > 0
    assert look() == 0
    os.utime(file, (0, 0))
    assert look() > 0


def test_a_type_is_offered_where_the_region_has_it(compute: Compute) -> None:
    found = {each.name: each for each in compute.instance_types()}
    assert set(found["t3.medium"].zones) <= {f"us-east-1{letter}" for letter in "abcdef"}
    assert found["t3.medium"].zones == tuple(sorted(found["t3.medium"].zones))
    assert found["c7g.large"].architecture is Architecture.ARM64
    assert found["g4dn.xlarge"].gpu_type == "T4"


def test_headroom_is_what_the_quota_leaves(overlay: OverlayProcess, compute: Compute, request_of: RequestOf) -> None:
    offer = request_of().offer
    assert compute.headroom(request_of("p4d.24xlarge").offer) is None, "no quota is known for it"
    compute.launch(request_of())
    overlay.tell("quota", code="L-1216C47A", value=1000)
    before = compute.headroom(offer)
    compute.launch(request_of("m5.xlarge"))
    after = compute.headroom(offer)
    assert before is not None
    assert after is not None
    assert before.instances - after.instances == 2
    assert "1000 vCPUs" in after.limited_by


def test_a_job_whose_name_looks_like_a_pattern_sees_its_own_instances_only(
    aws_settings: AwsSettings, compute: Compute, request_of: RequestOf, job: str
) -> None:
    compute.launch(request_of())
    assert list(compute.instances(job[:-1] + "*")) == []


def test_what_was_listed_before_a_failed_page_is_no_listing(
    overlay: OverlayProcess, aws_settings: AwsSettings, compute: Compute, request_of: RequestOf, job: str
) -> None:
    for _ in range(3):
        compute.launch(request_of())
    overlay.tell("break-page", token_only=True)
    try:
        with pytest.raises(ProviderError):
            compute.instances(job)
    finally:
        overlay.tell("break-page", token_only=False)
    assert len(compute.instances(job)) == 3


def test_no_credential_is_in_an_error(aws_settings: AwsSettings, impatient: Compute, job: str) -> None:
    with pytest.raises(ProviderError) as failed:
        impatient.instances(job)
    assert "do-not-tell" not in json.dumps([str(failed.value), repr(aws_settings), repr(impatient)])
