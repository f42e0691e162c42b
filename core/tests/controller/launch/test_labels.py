"""Ownership labels of instances."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta

import pytest

from cloud_tasks.controller.launch.labels import expiry, owner_label
from cloud_tasks.model import Instance, InstanceState, ProvisioningModel

CREATED, HOUR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("ada", "ada"),
        ("Ada.Lovelace@example.org", "ada-lovelace-example-org"),
        ("andré", "andr-"),
        ("x" * 80, "x" * 63),
    ],
)
def test_owner_label_is_valid_for_every_provider(name: str, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    assert owner_label() == label


def listed(state: InstanceState = InstanceState.RUNNING, started_at: datetime | None = None, **labels: str) -> Instance:
    return Instance(
        instance_id="i",
        job_id="job",
        state=state,
        instance_type="t",
        zone="z",
        provisioning_model=ProvisioningModel.ON_DEMAND,
        created_at=CREATED,
        started_at=started_at,
        labels=labels,
    )


def test_expiry_counts_from_the_start_of_an_instance() -> None:
    end = str(int((CREATED + HOUR).timestamp()))
    assert expiry(listed(expires=end)) == CREATED + HOUR
    assert expiry(listed(started_at=CREATED + 5 * HOUR, expires=end)) == CREATED + 6 * HOUR
    assert expiry(listed(started_at=CREATED - 5 * HOUR, expires=end)) == CREATED + HOUR
    assert expiry(listed(InstanceState.PENDING, expires=end)) is None


@pytest.mark.parametrize("label", ["", "soon", "1e9", "9" * 30])
def test_expiry_of_an_invalid_label_is_unknown(label: str) -> None:
    assert expiry(listed(expires=label)) is None
