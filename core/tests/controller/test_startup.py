"""The startup script: exports after the first line, whatever the values hold."""

from __future__ import annotations

import subprocess

from controller_fakes import ranked

from cloud_tasks.controller.startup import compose_startup_script, offer_environment


def test_the_exports_come_after_the_interpreter_line_and_before_the_rest() -> None:
    script = compose_startup_script("#!/bin/sh -e\necho hi\n", {"JOB_ID": "j"}, {"CLOUD_TASKS_LOCAL_STATE_DIR": "/s"})
    assert script.splitlines() == [
        "#!/bin/sh -e",
        "export CLOUD_TASKS_JOB_ID=j",
        "export RMS_CLOUD_TASKS_JOB_ID=j",
        "export CLOUD_TASKS_LOCAL_STATE_DIR=/s",
        "echo hi",
    ]


def test_a_script_without_an_interpreter_line_gets_bash() -> None:
    assert compose_startup_script("echo hi", {}, {}).splitlines() == ["#!/bin/bash", "echo hi"]


def test_every_value_reaches_the_shell_as_it_is() -> None:
    nasty = "a b'c\"d$HOME`id`\\ \n; rm -rf x"
    script = compose_startup_script('printf %s "$CLOUD_TASKS_X"', {"X": nasty}, {})
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == nasty


def test_a_worker_is_told_about_its_machine() -> None:
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
