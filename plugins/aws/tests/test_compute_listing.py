"""Instance types, quotas and listings."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from ec2_launches import RequestOf
from ec2_process import OverlayProcess

from cloud_tasks.errors import ProviderError
from cloud_tasks.model import Architecture
from cloud_tasks.plugin import Compute, ComputeContext
from cloud_tasks_aws.compute.backend import open_compute
from cloud_tasks_aws.settings import AwsSettings


def test_catalog_caches_types_per_account(overlay: OverlayProcess, aws_settings: AwsSettings, tmp_path: Path) -> None:
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
    assert overlay.state()["calls"] > calls, "the cache of another account was used"


def test_catalog_ignores_old_or_invalid_cache(
    overlay: OverlayProcess, aws_settings: AwsSettings, tmp_path: Path
) -> None:
    context = ComputeContext(job_id="", region="us-east-1", cache_dir=tmp_path)

    def calls() -> int:
        before = overlay.state()["calls"]
        with open_compute(aws_settings, context) as compute:
            assert len(compute.instance_types()) > 50
        return int(overlay.state()["calls"] - before)

    assert calls() > 0
    (file,) = tmp_path.iterdir()
    for content in ("{", "[]", '{"types": 7, "zones": {}}'):
        file.write_text(content)
        assert calls() > 0
    assert calls() == 0
    file.write_text(json.dumps({**json.loads(file.read_text()), "fetched_at": "2020-01-01T00:00:00+00:00"}))
    assert calls() > 0


def test_catalog_lists_types_with_their_zones(compute: Compute) -> None:
    found = {each.name: each for each in compute.instance_types()}
    assert set(found["t3.medium"].zones) <= {f"us-east-1{letter}" for letter in "abcdef"}
    assert found["t3.medium"].zones == tuple(sorted(found["t3.medium"].zones))
    assert found["c7g.large"].architecture is Architecture.ARM64
    assert found["g4dn.xlarge"].gpu_type == "T4"


def test_headroom_is_the_unused_quota(overlay: OverlayProcess, compute: Compute, request_of: RequestOf) -> None:
    offer = request_of().offer
    assert compute.headroom(request_of("p4d.24xlarge").offer) is None, "its quota is unknown"
    compute.launch(request_of())
    overlay.control("quota", code="L-1216C47A", value=1000)
    before = compute.headroom(offer)
    compute.launch(request_of("m5.xlarge"))
    after = compute.headroom(offer)
    assert before is not None
    assert after is not None
    assert before.instances - after.instances == 2
    assert "1000 vCPUs" in after.limited_by


def test_listing_escapes_wildcards_in_job_id(
    aws_settings: AwsSettings, compute: Compute, request_of: RequestOf, job: str
) -> None:
    compute.launch(request_of())
    assert list(compute.instances(job[:-1] + "*")) == []


def test_listing_with_failed_page_raises(
    overlay: OverlayProcess, aws_settings: AwsSettings, compute: Compute, request_of: RequestOf, job: str
) -> None:
    for _ in range(3):
        compute.launch(request_of())
    overlay.control("break-page", token_only=True)
    try:
        with pytest.raises(ProviderError):
            compute.instances(job)
    finally:
        overlay.control("break-page", token_only=False)
    assert len(compute.instances(job)) == 3


def test_provider_error_contains_no_credentials(aws_settings: AwsSettings, unreachable: Compute, job: str) -> None:
    with pytest.raises(ProviderError) as failed:
        unreachable.instances(job)
    assert "not-to-be-shown" not in json.dumps([str(failed.value), repr(aws_settings), repr(unreachable)])
