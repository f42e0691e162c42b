"""The sample plugins installed from wheels, in an environment without this checkout."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "examples" / "plugins"

# The sample's fixture starts a server on a free port and stops it by its process id.
_spec = importlib.util.spec_from_file_location(
    "redis_sample_conftest", SAMPLES / "redis_queue" / "tests" / "conftest.py"
)
assert _spec is not None
assert _spec.loader is not None
_sample = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_sample)
redis_server = _sample.redis_server
redis_url = _sample.redis_url
secured_redis_url = _sample.secured_redis_url

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def clean_environment() -> dict[str, str]:
    """Return the environment without this checkout on any path."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CLOUD_TASKS_GUARD_LOG")}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of core, local and both samples, built from copies so that the checkout is not changed."""
    target = tmp_path_factory.mktemp("wheels")
    sources = tmp_path_factory.mktemp("sources")

    def build(folder: Path) -> None:
        copy = sources / "-".join(folder.relative_to(ROOT).parts)
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(copy)]
        subprocess.run(command, check=True, capture_output=True, env=clean_environment())

    folders = (ROOT / "core", ROOT / "plugins" / "local", SAMPLES / "redis_queue", SAMPLES / "parameter_sources")
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(build, folders))
    return target


@pytest.fixture(scope="session")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs programs of a fresh environment with the wheels and their requirements."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    programs = environment / "bin"

    def run(program: str, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(programs / program), *arguments],
            cwd=cwd,
            env={**clean_environment(), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    packages = ["cloud-tasks[local,testing]", "cloud-tasks-redis", "cloud-tasks-parameters"]
    pip = ["-m", "pip", "install", "--quiet", "--find-links", str(wheels)]
    # Third-party packages come from the package index that this machine's pip uses.
    answer = run("python", *pip, "build", "hatchling", *packages, cwd=environment)
    assert answer.returncode == 0, answer.stderr
    return run
