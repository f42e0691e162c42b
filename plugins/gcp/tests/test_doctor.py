"""Doctor checks of queues and prices, against fakes of Google's services."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from billing_project import ROBOT, GoogleFake, disabled
from click.testing import CliRunner, Result
from fake_server import FakeServer

from cloud_tasks.cli.main import cli
from cloud_tasks.plugin import CheckContext, Finding
from cloud_tasks.registry import Registry
from cloud_tasks_gcp.settings import GcpSettings

HERE = CheckContext(region="us-central1", zone="us-central1-a")


@pytest.fixture
def google() -> Iterator[GoogleFake]:
    with FakeServer().serving() as server:
        yield GoogleFake(server)


def check(kind: str, settings: GcpSettings, context: CheckContext = HERE) -> dict[str, Finding]:
    """Return the findings by subject."""
    registry = Registry(only=["gcp"])
    backend: Any = getattr(registry, kind)("gcp")
    found: Iterable[Finding] = backend.check(settings, context)
    return {finding.subject: finding for finding in found}


def failed(findings: dict[str, Finding]) -> list[str]:
    return [subject for subject, finding in findings.items() if not finding.ok]


def test_check_queue_passes_for_complete_project(google: GoogleFake) -> None:
    findings = check("queue", google.settings)
    assert failed(findings) == []
    assert list(findings) == [
        "credentials",
        "project",
        "Pub/Sub API",
        "Cloud Monitoring API",
        "permissions for queues",
    ]


def test_check_queue_reports_disabled_pubsub_with_fix(google: GoogleFake) -> None:
    google.refused["/topics"] = disabled("pubsub.googleapis.com", "Cloud Pub/Sub API")
    findings = check("queue", google.settings)
    assert failed(findings) == ["Pub/Sub API"]
    assert "gcloud services enable pubsub.googleapis.com --project p" in findings["Pub/Sub API"].remedy
    assert "permissions for queues" not in findings


def test_check_queue_lists_missing_permissions(google: GoogleFake) -> None:
    google.withheld = {"pubsub.topics.create"}
    finding = check("queue", google.settings)["permissions for queues"]
    assert not finding.ok
    assert finding.message.endswith(" missing: pubsub.topics.create")


def test_check_queue_reports_disabled_monitoring_without_failing(google: GoogleFake) -> None:
    google.refused["/timeSeries"] = disabled("monitoring.googleapis.com", "Cloud Monitoring API")
    finding = check("queue", google.settings)["Cloud Monitoring API"]
    assert finding.ok
    assert finding.message.startswith("queue depth unavailable")
    assert "gcloud services enable monitoring.googleapis.com" in finding.remedy


def test_check_pricing_passes_for_complete_project(google: GoogleFake) -> None:
    findings = check("pricing", google.settings)
    assert failed(findings) == []
    assert findings["Cloud Billing API"].message == "price list readable"


def test_checks_change_nothing(google: GoogleFake) -> None:
    for kind in ("queue", "compute", "pricing"):
        check(kind, google.settings)
    changing = [(method, path) for method, path in google.server.calls if method != "GET"]
    assert {path.rpartition(":")[2] for _, path in changing} == {"testIamPermissions", "getIamPolicy"}


def test_check_pricing_reports_disabled_billing_api_with_fix(google: GoogleFake) -> None:
    google.billing.refusal = disabled("cloudbilling.googleapis.com", "Cloud Billing API")
    finding = check("pricing", google.settings)["Cloud Billing API"]
    assert not finding.ok
    assert "gcloud services enable cloudbilling.googleapis.com --project p" in finding.remedy


def test_checks_without_credentials_report_credentials_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    # Read from the environment when it is imported, which may have been long ago.
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)
    for kind in ("queue", "compute", "pricing"):
        findings = check(kind, GcpSettings(project_id="p"))
        assert list(findings) == ["credentials"]
        assert not findings["credentials"].ok
        assert findings["credentials"].remedy.startswith("run: gcloud auth application-default login")


def run_doctor(google: GoogleFake, *arguments: str) -> Result:
    settings = google.settings
    sets = [f"gcp.{name}={value}" for name, value in attrs.asdict(settings).items() if name.endswith("_endpoint")]
    return CliRunner().invoke(
        cli,
        [
            "doctor",
            *("--provider", "gcp", "--project-id", "p", "--service-account", ROBOT, "--region", "us-central1"),
            *(word for each in sets for word in ("--set", each)),
            *arguments,
        ],
        standalone_mode=False,
    )


def test_doctor_command_passes_for_complete_project(
    google: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_doctor(google)
    assert result.return_value == 0, result.output
    assert "All checks passed" in result.output
    assert re.search("^  ok +permissions for instances", result.output, re.MULTILINE)


def test_doctor_command_shows_fixes_and_fails(
    google: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    google.refused["/topics"] = disabled("pubsub.googleapis.com", "Cloud Pub/Sub API")
    result = run_doctor(google)
    assert result.return_value == 1, result.output
    assert "-> run: gcloud services enable pubsub.googleapis.com --project p" in result.output


def test_doctor_command_prints_roles(google: GoogleFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_doctor(google, "--policy")
    assert result.return_value == 0, result.output
    assert f"--member serviceAccount:{ROBOT} --role projects/p/roles/cloudTasksWorker" in result.output
