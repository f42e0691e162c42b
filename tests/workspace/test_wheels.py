"""The wheels, installed into a fresh environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "parallel_addition"
# Third-party packages come from the package index that this machine's pip uses.
pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # Not through the command line, which might update the environment during parallel tests.
    program = "import sys, dev; sys.exit(dev.build(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def environment(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a fresh environment with `cloud-tasks[local]` from the wheels."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    programs = folder / "bin"
    command = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--find-links", str(wheels)]
    subprocess.run([*command, "cloud-tasks[local]"], check=True, env=clean_environment())
    return programs


def clean_environment() -> dict[str, str]:
    """Return the environment without this checkout on any path."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CLOUD_TASKS_GUARD_LOG")}


def call(environment: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(environment / "cloud-tasks"), *arguments],
        cwd=folder,
        env={**clean_environment(), "ADDITION_OUTPUT_DIR": str(folder / "results")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_build_creates_a_wheel_of_each_distribution(wheels: Path) -> None:
    names = sorted(file.name.split("-")[0] for file in wheels.glob("*.whl"))
    assert names == ["cloud_tasks"] + [
        f"cloud_tasks_{name}" for name in ("aws", "azure", "dashboard", "gcp", "local", "notify", "otel", "slurm")
    ]


def test_installed_command_shows_its_version_and_plugins(environment: Path, tmp_path: Path) -> None:
    version = call(environment, tmp_path, "--version")
    assert (version.returncode, version.stdout) == (0, "cloud-tasks, version 0.1.0\n")
    listing = call(environment, tmp_path, "plugins", "--json")
    assert [row["name"] for row in json.loads(listing.stdout)] == ["builtin", "local"]


def test_installed_command_runs_a_job(environment: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "example")
    arguments = ("--config", "example/config_local.yml", "--limit", "20", "--task-file", "example/addition_tasks.json")
    job = call(environment, tmp_path, "run", *arguments)
    assert job.returncode == 0, job.stderr
    assert len(list((tmp_path / "results").glob("*.txt"))) == 20
    assert (folder / "parallel-addition-job.db").exists()


def test_core_and_local_install_together_from_a_checkout(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    command = [str(tmp_path / "env" / "bin" / "python"), "-m", "pip", "install", "--quiet", "--dry-run"]
    answer = subprocess.run(
        [*command, "-e", "./core[local]", "-e", "./plugins/local"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
