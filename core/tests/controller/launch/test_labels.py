"""Ownership labels of instances."""

from __future__ import annotations

import getpass

import pytest

from cloud_tasks.controller.launch.labels import owner_label


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
