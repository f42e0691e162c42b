"""Compute Engine with the real SDK: lost answers, refused listings, and zones that do not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from billing_fake import google_error
from fake_server import Fault
from gce_fake import GceFake
from gce_requests import launch_request, open_compute, remaining
from structlog.testing import capture_logs

from cloud_tasks.errors import LaunchRefusedError, ProviderError
from cloud_tasks.plugin import Compute

LOGIN_PAGE = Fault(share=1.0, after_effect=1.0, status=200, body="<html>Log in to the network</html>")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[GceFake]:
    with GceFake(tmp_path / "gce") as fake:
        yield fake


@pytest.fixture
def compute(fake: GceFake) -> Iterator[Compute]:
    with open_compute(fake) as compute:
        yield compute


def test_launch_with_lost_answer_is_no_refusal(fake: GceFake, compute: Compute) -> None:
    request = launch_request()
    compute.launch(launch_request())  # with the image known, the insertion is the first call
    fake.server.fault = LOGIN_PAGE
    with pytest.raises(ProviderError, match="a web page; check for a proxy") as failed:
        compute.launch(request)
    assert failed.value.transient
    assert not isinstance(failed.value, LaunchRefusedError)
    fake.server.fault = None
    assert compute.launch(request).instance_id in remaining(fake)[0]
    assert len(remaining(fake)[0]) == 2


def test_refused_listing_names_the_project_and_the_remedy(fake: GceFake, compute: Compute) -> None:
    refusal = google_error(403, "SERVICE_DISABLED", "It is disabled.")
    fake.server.fault = Fault(share=1.0, after_effect=0.0, status=403, body=refusal.body)
    with pytest.raises(ProviderError, match="disabled in project fake-project") as failed:
        compute.instances("job")
    assert "--project fake-project" in failed.value.hint


def test_instance_types_leaves_out_zones_that_do_not_answer(
    fake: GceFake, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(fake.cloud.catalog.types, "us-central1-f")
    with capture_logs() as logs:
        zones = {zone for each in compute.instance_types() for zone in each.zones}
    assert zones == {"us-central1-a", "us-central1-b", "us-central1-c"}
    (warning,) = [each for each in logs if each["log_level"] == "warning"]
    assert "us-central1-f" in warning["event"]


def test_instance_types_raises_if_no_zone_answers(
    fake: GceFake, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    for zone in "abcf":
        monkeypatch.delitem(fake.cloud.catalog.types, f"us-central1-{zone}")
    with pytest.raises(ProviderError, match="cannot list the machine types of us-central1-a"):
        compute.instance_types()
