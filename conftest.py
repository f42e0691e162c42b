"""Fixtures for all tests: no network access, in this process and in child processes."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

GUARD = Path(__file__).parent / "tests" / "guard"
_log = Path(tempfile.mkdtemp(prefix="cloud-tasks-guard-")) / "refusals"
_log.touch()
os.environ["CLOUD_TASKS_GUARD_LOG"] = str(_log)
# What `cloud-tasks setup` has recorded for this user is not for tests.
os.environ["CLOUD_TASKS_CONFIG_DIR"] = str(_log.parent / "settings")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(GUARD), os.environ.get("PYTHONPATH", "")]))

_spec = importlib.util.spec_from_file_location("loopback_guard", GUARD / "sitecustomize.py")
assert _spec is not None
assert _spec.loader is not None
_spec.loader.exec_module(importlib.util.module_from_spec(_spec))


# pytest rewrites the assertions of all tests: once, not in every process.
sys.dont_write_bytecode = False

LONG = ("core/tests/cli/", "core/tests/simulation/", "core/tests/worker/", "plugins/dashboard/", "tests/")
"""Folders with long files."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Alternate long and short files: processes take whole files in order, and a long last one would run alone."""
    files = dict.fromkeys(item.nodeid.partition("::")[0] for item in items)
    long = [file for file in files if file.startswith(LONG)]
    short = [file for file in files if not file.startswith(LONG)]
    mixed = [file for pair in itertools.zip_longest(long, short) for file in pair if file]
    place = {file: number for number, file in enumerate(mixed)}
    items.sort(key=lambda item: place[item.nodeid.partition("::")[0]])


@pytest.fixture(autouse=True)
def stay_on_this_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that tried to connect to another machine, unless it is marked ``network``."""
    if request.node.get_closest_marker("network"):
        monkeypatch.delenv("CLOUD_TASKS_GUARD_LOG")
        yield
        return
    before = _log.stat().st_size
    yield
    if _log.stat().st_size > before:
        refused = _log.read_text()[before:].splitlines()
        _log.write_text("")
        pytest.fail("; ".join(sorted(set(refused))))


@pytest.fixture(autouse=True)
def reset_logging() -> Iterator[None]:
    """Reset the logging configuration set by a command in this test."""
    yield
    structlog.reset_defaults()


def pytest_unconfigure() -> None:
    _log.unlink(missing_ok=True)
    shutil.rmtree(_log.parent, ignore_errors=True)
