"""What an instance runs first: real shells, with and without the line before the script."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cloud_tasks_gcp.compute.startup import boot_script

NOSY = """#!/bin/bash
set -euo pipefail
echo "jobs: $(jobs)"
echo "last: ${!:-none}"
echo "options: $-"
exit 7
"""


def run(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    file = folder / "script"
    file.write_text(script)
    file.chmod(0o755)
    return subprocess.run(
        [str(file)], env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_script_notices_nothing_of_the_line_before_it(tmp_path: Path) -> None:
    plain, whole = run(NOSY, tmp_path), run(boot_script(NOSY), tmp_path)
    assert plain.returncode == 7
    assert (whole.returncode, whole.stdout, whole.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_a_program_that_is_no_shell_script_is_left_alone() -> None:
    script = "#!/usr/bin/env python3\nprint(1)\n"
    assert boot_script(script) == script


@pytest.mark.parametrize(
    ("given", "told"), [({}, "shutdown -h +1"), ({"CLOUD_TASKS_POWER_OFF_COMMAND": "true"}, "true")]
)
@pytest.mark.parametrize("first", ["#!/bin/sh\n", "#!/bin/bash -e\n", ""])
def test_the_worker_is_told_how_to_switch_the_machine_off(
    first: str, given: dict[str, str], told: str, tmp_path: Path
) -> None:
    script = f'{first}echo "$CLOUD_TASKS_POWER_OFF_COMMAND"'
    assert run(boot_script(script), tmp_path, **given).stdout == f"{told}\n"
