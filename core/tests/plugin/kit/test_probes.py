"""Invariants of probes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloud_tasks.errors import CloudTasksError, InputError, LaunchRefusedError, ProviderError, RefusalScope
from cloud_tasks.plugin import Finding
from cloud_tasks.plugin.kit import DoubtError, Probe, is_certain, run_probes

DENIED = ProviderError("no permission", hint="ask for the role")
BUSY = ProviderError("busy", transient=True)


def raising(error: Exception) -> str:
    raise error


def test_passed_probe_is_a_finding_with_its_result() -> None:
    assert list(run_probes([Probe(subject="region", look=lambda: "north", remedy="unused")])) == [
        Finding(ok=True, subject="region", message="north")
    ]


def test_error_is_a_finding_with_its_own_hint_before_the_remedy() -> None:
    probes = [
        Probe(subject="role", look=lambda: raising(DENIED), remedy="other"),
        Probe(subject="queue", look=lambda: raising(BUSY), remedy="wait"),
    ]
    assert list(run_probes(probes)) == [
        Finding(ok=False, subject="role", message="no permission", remedy="ask for the role", prevents_run=True),
        Finding(ok=False, subject="queue", message="busy", remedy="wait", prevents_run=False),
    ]


def test_probe_is_skipped_unless_those_that_it_needs_have_passed() -> None:
    made: list[str] = []

    def look(name: str) -> str:
        made.append(name)
        return raising(DENIED) if name == "b" else name

    needs = {"a": (), "b": ("a",), "c": ("b",), "d": ("c",), "e": ("a",), "f": ("a", "b"), "g": ("later",)}
    probes = [Probe(subject=name, look=lambda name=name: look(name), needs=each) for name, each in needs.items()]  # type: ignore[misc]
    assert [(each.subject, each.ok) for each in run_probes(probes)] == [("a", True), ("b", False), ("e", True)]
    assert made == ["a", "b", "e"]


def test_probes_run_one_by_one() -> None:
    findings = run_probes([Probe(subject="a", look=lambda: "a"), Probe(subject="b", look=lambda: raising(KeyError()))])
    assert next(findings).ok
    with pytest.raises(KeyError):
        next(findings)


@pytest.mark.parametrize("prevents", [True, False])
def test_probe_decides_whether_its_error_prevents_a_run(prevents: bool) -> None:
    for decision in (prevents, lambda error: prevents):
        (finding,) = run_probes([Probe(subject="a", look=lambda: raising(BUSY), prevents_run=decision)])
        assert finding.prevents_run is prevents


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (DENIED, True),
        (BUSY, False),
        (InputError("bad"), True),
        (CloudTasksError("none"), True),
        (DoubtError("few spot cores"), False),
        (LaunchRefusedError("a", scope=RefusalScope.ACCOUNT, retry_after=timedelta(1), reason="r"), True),
        (LaunchRefusedError("a", scope=RefusalScope.ZONE, retry_after=timedelta(1), reason="r"), False),
    ],
)
def test_is_certain_leaves_out_what_may_pass(error: CloudTasksError, certain: bool) -> None:
    assert is_certain(error) is certain
