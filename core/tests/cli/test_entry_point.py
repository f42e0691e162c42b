"""The installed script, interrupted while it imports the command line."""

from __future__ import annotations

import subprocess
import sys

INTERRUPTED_IMPORT = """
import os, signal, sys

class InterruptImport:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, InterruptImport())
from cloud_tasks.cli.entry_point import main
main()
"""


def test_entry_point_interrupted_during_the_import_prints_one_line() -> None:
    start = [sys.executable, "-c", INTERRUPTED_IMPORT]
    done = subprocess.run(start, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Error: interrupted\n")
