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
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "examples" / "plugins"


def _conftest_of(sample: str) -> ModuleType:
    """Return the module of a sample's fixtures: they start a server on a free port and stop it by its process id."""
    spec = importlib.util.spec_from_file_location(f"{sample}_conftest", SAMPLES / sample / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_redis = _conftest_of("redis_queue")
redis_server = _redis.redis_server
redis_url = _redis.redis_url
secured_redis_url = _redis.secured_redis_url
nats_server = _conftest_of("nats_queue").nats_server

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[bytes]"]


def clean_environment() -> dict[str, str]:
    """Return the environment without this checkout on any path."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CLOUD_TASKS_GUARD_LOG")}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of core, local and the samples, built from copies so that the checkout is not changed."""
    target = tmp_path_factory.mktemp("wheels")
    sources = tmp_path_factory.mktemp("sources")

    def build(folder: Path) -> None:
        copy = sources / "-".join(folder.relative_to(ROOT).parts)
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(copy)]
        subprocess.run(command, check=True, capture_output=True, env=clean_environment())

    samples = [SAMPLES / sample for sample in ("redis_queue", "nats_queue", "parameter_sources")]
    folders = [ROOT / "core", ROOT / "plugins" / "local", *samples]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(build, folders))
    return target


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment, in which `installed` installs the wheels."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    return environment / "bin"


@pytest.fixture(scope="session")
def start(programs: Path) -> Start:
    """Return a function that starts a program of that environment, and does not wait for its end."""

    def start(program: str, *arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
        command = [str(programs / program), *arguments]
        with (cwd / f"{program}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=cwd, env=clean_environment(), stdout=log, stderr=log)

    return start


@pytest.fixture(scope="session")
def installed(wheels: Path, programs: Path) -> Run:
    """Return a function that runs programs of a fresh environment with the wheels and their requirements."""

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

    packages = ["cloud-tasks[local,testing]", "cloud-tasks-redis", "cloud-tasks-nats", "cloud-tasks-parameters"]
    pip = ["-m", "pip", "install", "--quiet", "--find-links", str(wheels)]
    # Third-party packages come from the package index that this machine's pip uses.
    answer = run("python", *pip, "build", "hatchling", *packages, cwd=programs)
    assert answer.returncode == 0, answer.stderr
    return run
