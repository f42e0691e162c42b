"""Dependencies: what an installation brings to an instance and to the controller."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
OURS = "cloud-tasks-gcp"
CONTROLLER_ONLY = {"google-cloud-compute", "gcsfs", "aiohttp"}
"""Distributions that only the controller needs: the SDK of Compute Engine, and Cloud Storage with its dependencies."""


def project(folder: str) -> dict[str, dict[str, list[str]]]:
    """Return the requirements of a distribution of this workspace, its own and those of its extras."""
    table = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return {"own": {"": table["dependencies"]}, "extras": table.get("optional-dependencies", {})}


def requirements_of(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """Yield the requirements of a distribution on this platform."""
    folders = {OURS: "plugins/gcp", "cloud-tasks": "core"}
    if name in folders:
        found = project(folders[name])
        texts = [*found["own"][""], *(text for extra in extras for text in found["extras"][extra])]
    else:
        texts = requires(name) or []
    for text in texts:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def installed(requirement: str) -> set[str]:
    """Return all distributions that `pip install` of a requirement brings."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if (name, frozenset(one.extras)) not in seen:
            seen.add((name, frozenset(one.extras)))
            waiting += requirements_of(name, one.extras)
    return {name for name, _ in seen}


def test_base_distribution_brings_worker_dependencies_only() -> None:
    found = installed(OURS)
    assert found >= {"cloud-tasks", "google-cloud-pubsub", "grpcio"}
    assert found & CONTROLLER_ONLY == set()


def test_core_extra_brings_controller_dependencies() -> None:
    (requirement,) = map(Requirement, project("core")["extras"]["gcp"])
    assert requirement.name == OURS
    assert requirement.extras >= {"compute"}
    assert installed("cloud-tasks[gcp]") >= {*installed(OURS), *CONTROLLER_ONLY}


@pytest.mark.parametrize("example", ["config.yml", "config_exceptions.yml"])
def test_example_startup_script_installs_worker_dependencies_only(example: str) -> None:
    settings = yaml.safe_load((ROOT / "examples" / "parallel_addition" / example).read_text())["run"]
    (line,) = [line for line in settings["startup_script"].splitlines() if line.startswith("pip install")]
    requirement = line.split()[2].strip('"').replace("$CLOUD_TASKS_PROVIDER", "gcp")
    assert installed(requirement) == installed(OURS)
