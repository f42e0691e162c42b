"""What an installation brings: to an instance what a worker needs, to the controller's machine the rest as well."""

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
CONTROLLERS = {"google-cloud-compute", "gcsfs", "aiohttp"}
"""Distributions that no worker needs: the SDK of Compute Engine, and Cloud Storage with what it brings."""


def project(folder: str) -> dict[str, dict[str, list[str]]]:
    """The lists of requirements of a distribution of this workspace: its own, and those of its extras."""
    table = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return {"own": {"": table["dependencies"]}, "extras": table.get("optional-dependencies", {})}


def wanted_by(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """What a distribution asks for on this machine."""
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
    """The distributions that come with `pip install` of a requirement."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if (name, frozenset(one.extras)) not in seen:
            seen.add((name, frozenset(one.extras)))
            waiting += wanted_by(name, one.extras)
    return {name for name, _ in seen}


def test_an_instance_gets_what_a_worker_needs_alone() -> None:
    found = installed(OURS)
    assert found >= {"cloud-tasks", "google-cloud-pubsub", "grpcio"}
    assert found & CONTROLLERS == set()


def test_the_extra_of_core_asks_for_the_controllers_side_as_well() -> None:
    (requirement,) = map(Requirement, project("core")["extras"]["gcp"])
    assert requirement.name == OURS
    assert requirement.extras >= {"compute"}
    assert installed("cloud-tasks[gcp]") >= {*installed(OURS), *CONTROLLERS}


@pytest.mark.parametrize("example", ["config.yml", "config_exceptions.yml"])
def test_the_instances_of_the_example_install_no_more_than_a_worker_needs(example: str) -> None:
    settings = yaml.safe_load((ROOT / "examples" / "parallel_addition" / example).read_text())["run"]
    (line,) = [line for line in settings["startup_script"].splitlines() if line.startswith("pip install")]
    requirement = line.split()[2].strip('"').replace("$CLOUD_TASKS_PROVIDER", "gcp")
    assert installed(requirement) == installed(OURS)
