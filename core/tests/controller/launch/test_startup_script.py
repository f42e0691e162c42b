"""Startup script: quoted exports after the interpreter line."""

from __future__ import annotations

import os
import subprocess

import pytest
from controller_fakes import ranked

from cloud_tasks.controller.launch.startup_script import compose_startup_script, offer_environment


def test_exports_follow_the_interpreter_line() -> None:
    script = compose_startup_script(
        "#!/bin/sh -e\necho hi\n", {"JOB_ID": "j"}, (), {"CLOUD_TASKS_LOCAL_STATE_DIR": "/s"}
    )
    assert script.splitlines() == [
        "#!/bin/sh -e",
        "export CLOUD_TASKS_JOB_ID=j",
        "export RMS_CLOUD_TASKS_JOB_ID=j",
        "export CLOUD_TASKS_LOCAL_STATE_DIR=/s",
        "echo hi",
    ]


def test_script_without_an_interpreter_line_gets_bash() -> None:
    assert compose_startup_script("echo hi", {}, (), {}).splitlines() == ["#!/bin/bash", "echo hi"]


def test_exports_quote_every_value() -> None:
    nasty = "a b'c\"d$HOME`id`\\ \n; rm -rf x"
    script = compose_startup_script('printf %s "$CLOUD_TASKS_X"', {"X": nasty}, (), {})
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == nasty


def test_exports_describe_the_instance_to_its_worker() -> None:
    facts = offer_environment(ranked(spot=True))
    assert facts == {
        "INSTANCE_TYPE": "m-8",
        "INSTANCE_NUM_VCPUS": "8",
        "INSTANCE_MEM_GB": "32",
        "INSTANCE_SSD_GB": "0",
        "INSTANCE_BOOT_DISK_GB": "10",
        "INSTANCE_IS_SPOT": "1",
        "INSTANCE_PRICE": "0.25",
        "NUM_TASKS_PER_INSTANCE": "8",
    }


@pytest.mark.parametrize(
    ("started", "told"),
    [
        ("", "m-8 0.25 8"),
        ("m-8 zone-a", "m-8 0.25 8"),
        ("n-8 zone-b", "n-8 0.26 8"),
        ("m-8 zone-b", "m-8 0.27 8"),
        ("of-tomorrow zone-a", "m-8 0.25 8"),
    ],
)
def test_exports_depend_on_the_offer_that_the_provider_selected(started: str, told: str) -> None:
    offers = (
        ranked("m-8", zone="zone-a", price="0.25"),
        ranked("n-8", zone="zone-b", price="0.26"),
        ranked("m-8", zone="zone-b", price="0.27"),
    )
    say = 'echo "$CLOUD_TASKS_INSTANCE_TYPE $RMS_CLOUD_TASKS_INSTANCE_PRICE $CLOUD_TASKS_NUM_TASKS_PER_INSTANCE"'
    script = compose_startup_script(say, {}, offers, {})
    environment = {**os.environ, "CLOUD_TASKS_STARTED": started}
    shown = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout.strip() == told
