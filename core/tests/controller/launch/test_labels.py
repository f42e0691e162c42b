"""The label that says whose an instance is."""

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
def test_the_label_is_one_that_every_provider_keeps_as_it_is(
    name: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    assert owner_label() == label
