"""Console logs: the line of a final message explains the end of an instance."""

from __future__ import annotations

import pytest

from cloud_tasks.controller.launch.console import start_failure, telling_line
from cloud_tasks.plugin import OWN_END

GUARD = f"cloud-tasks: the startup script ended, and no worker runs{OWN_END}"
LOCAL = "[2026-11-30T00:27:50+00:00] instance terminated: startup script exited (exit code 3)"


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("loading\nweights are missing", "weights are missing"),
        ("ValueError: no license\nbye", "ValueError: no license"),
        (f"loading\nweights are missing\n{GUARD}", "weights are missing; the startup script ended, and no worker runs"),
        (
            f"E: Unable to locate package x\nskipped\n{GUARD}",
            "E: Unable to locate package x; the startup script ended, and no worker runs",
        ),
        (f"{GUARD}\n", "the startup script ended, and no worker runs"),
        (
            f"weights are missing\n{LOCAL}",
            "weights are missing; instance terminated: startup script exited (exit code 3)",
        ),
        (
            f"cause\n{GUARD}\n[ OK ] Stopped\nsystemd: unit failed",
            "cause; the startup script ended, and no worker runs",
        ),
        (
            "ModuleNotFoundError: No module named 'x'\nTraceback:\ncloud_tasks.worker.common.ipc.ChannelClosedError",
            "ModuleNotFoundError: No module named 'x'",
        ),
        (f"Killed\nipc.ChannelClosedError\n{GUARD}", "Killed; the startup script ended, and no worker runs"),
        ("ipc.ChannelClosedError", "ipc.ChannelClosedError"),
    ],
)
def test_telling_line_quotes_the_output_before_the_own_end(log: str, line: str) -> None:
    assert telling_line(log) == line


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", ""),
        ("loading\nsetup: no data", ""),
        ("[1] sh: cloud-tasks: start failed: setup: no \x1b data\n[ OK ] Stopped\n", "setup: no \\x1b data"),
    ],
)
def test_start_failure_is_what_the_startup_script_says(log: str, reason: str) -> None:
    assert start_failure(log) == reason
