"""Doctor and price commands by the real command line, on all fakes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from fake_server import Fault
from gcp_job_folder import PROJECT, GcpJobFolder, gcp_job_folder

WHERE = ("--provider", "gcp", "--project-id", PROJECT, "--region", "us-central1")
LIST_COMMAND = (
    *("list-instance-types", *WHERE, "--json", "--instance-types", "^e2-standard-8$"),
    *("--boot-disk-types", "pd-standard", "--total-boot-disk-size", "10"),
)


@pytest.fixture(scope="module")
def job_folder(tmp_path_factory: pytest.TempPathFactory, emulator: str) -> Iterator[GcpJobFolder]:
    with gcp_job_folder(tmp_path_factory.mktemp("job_folder"), emulator=emulator) as job_folder:
        yield job_folder


def test_doctor_passes_on_fakes(job_folder: GcpJobFolder) -> None:
    answer = job_folder.run("doctor", *WHERE)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for subject in ("Pub/Sub API", "Compute Engine API", "Cloud Billing API", "quotas of us-central1"):
        assert re.search(f"^  ok +{re.escape(subject)}", answer.stdout, re.MULTILINE)


def test_list_instance_types_prices_reference_type_online_and_offline(job_folder: GcpJobFolder) -> None:
    first = job_folder.run(*LIST_COMMAND)
    assert first.returncode == 0, first.stderr
    assert prices(first.stdout) == pytest.approx([0.268614 + 0.005], rel=0.0002)
    job_folder.billing.server.fault = Fault(share=1.0, status=None)
    try:
        offline = job_folder.run(*LIST_COMMAND, "--set", "gcp.price_max_age_hours=0")
    finally:
        job_folder.billing.server.fault = None
    assert offline.returncode == 0, offline.stderr
    assert prices(offline.stdout) == prices(first.stdout)
    assert "WARNING - Prices of Google Cloud of us-central1: using those of " in offline.stderr


def prices(output: str) -> list[float]:
    """Return the price of each row in US dollars per hour."""
    found = json.loads(output)
    rows = found if isinstance(found, list) else found["instance_types"]
    return [float(row["total_price"]) for row in rows]
