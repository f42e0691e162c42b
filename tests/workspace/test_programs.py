"""The soak tests and benchmarks, which run seldom: their imports succeed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
_IMPORT = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='imported')"


@pytest.mark.parametrize(
    "path", sorted([*TESTS.glob("soak/*.py"), *TESTS.glob("benchmarks/*.py")]), ids=lambda p: p.stem
)
def test_program_finds_what_it_imports(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORT, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
