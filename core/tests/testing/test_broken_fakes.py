"""Contracts fail for faulty backends, in the test that names the fault."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from expected_failures import WRONG

from cloud_tasks.testing import (
    ComputeContract,
    Contract,
    EventSinkContract,
    InstanceSideContract,
    PricingContract,
    QueueContract,
    SetupContract,
    StagingContract,
    TaskSourceContract,
)

NEVER_FAILED = {
    # Faults that a fake in memory cannot have.
    "test_queue_object_is_thread_safe",
    "test_regions_have_names_and_zones",
    "test_instance_types_are_described",
    "test_price_of_no_requests_is_empty",
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the failed tests by backend, from one run of those that must fail in a separate pytest."""
    results = tmp_path_factory.mktemp("broken") / "results.xml"
    suites = [str(path) for path in sorted(Path(__file__).parent.glob("broken*_suite.py"))]
    support = str(Path(__file__).parent.parent / "support")
    options = [
        "-q",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        "-p",
        "expected_failures",
        "-c",
        "/dev/null",
        "--junitxml",
        str(results),
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *suites],
        env=os.environ | {"PYTHONPATH": support},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    failed: dict[str, set[str]] = {}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        backend = case.attrib["classname"].rpartition(".Test")[2]
        entry = failed.setdefault(backend, set())
        if case.find("failure") is not None:
            entry.add(case.attrib["name"].partition("[")[0])
    return failed


@pytest.mark.parametrize("backend", WRONG)
def test_contract_fails_for_a_faulty_backend(failures: dict[str, set[str]], backend: str) -> None:
    assert {f"test_{name}" for name in WRONG[backend].split()} <= failures[backend]


def test_suite_has_every_faulty_backend(failures: dict[str, set[str]]) -> None:
    assert set(failures) == set(WRONG)


@pytest.mark.parametrize(
    "contract",
    [
        QueueContract,
        ComputeContract,
        InstanceSideContract,
        SetupContract,
        StagingContract,
        PricingContract,
        EventSinkContract,
        TaskSourceContract,
    ],
)
def test_contract_tests_can_all_fail(failures: dict[str, set[str]], contract: type[Contract]) -> None:
    failed = {name for names in failures.values() for name in names}
    assert contract.contract_tests - failed - NEVER_FAILED == set()
