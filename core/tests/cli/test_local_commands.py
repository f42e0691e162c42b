"""Commands on a provider, with the provider ``local``."""

from __future__ import annotations

import json
import platform
import re

import pytest
from command_line import CommandLine


@pytest.fixture
def here(shell: CommandLine) -> CommandLine:
    shell.configure()
    return shell


def asked(shell: CommandLine, *arguments: str) -> list[dict[str, object]]:
    done = shell.run(*arguments, "--config", "config.yml", "--json")
    assert done.code == 0, done.err
    found: list[dict[str, object]] = json.loads(done.out)
    return found


def test_local_provider_lists_regions_images_and_types(here: CommandLine) -> None:
    assert [row["name"] for row in asked(here, "list-regions")] == ["local"]
    assert [row["name"] for row in asked(here, "list-images")] == ["this-machine"]
    mine = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    types = asked(here, "list-instance-types", "--sort-by=-vcpu", "--architecture", mine)
    assert [(row["vcpu"], float(str(row["total_price"]))) for row in types] == [(2, 1.0), (1, 0.5)]


def test_local_provider_lists_running_instances(here: CommandLine) -> None:
    mine, other = here.launch("a"), here.launch("b", job_id="other")
    assert [row["id"] for row in asked(here, "list-running-instances")] == [mine.instance_id]
    everything = asked(here, "list-running-instances", "--all-instances", "--sort-by", "job_id")
    assert [(row["id"], row["state"]) for row in everything] == [
        (mine.instance_id, "running"),
        (other.instance_id, "running"),
    ]


def test_doctor_passes_on_a_healthy_machine(here: CommandLine) -> None:
    done = here.run("doctor", "--config", "config.yml")
    assert (done.code, done.out.splitlines()[-1]) == (0, "All checks passed")


def test_rms_cloud_tasks_spellings_are_accepted(here: CommandLine) -> None:
    done = here.run("list_running_instances", "--config", "config.yml", "-v", "--sort-by", "type,-creation_time")
    assert (done.code, done.out) == (0, "No running instances of job job found\n")
    (here.folder / "tasks.json").write_text('[{"task_id": "sum", "data": {}}]')
    loaded = here.run("load_queue", "--config", "config.yml", "--task-file", "tasks.json")
    assert loaded.code == 0, loaded.err
    named = re.fullmatch(r"Loaded 1 task into queue (job-[0-9a-f]{16}-1); database job\.db\n", loaded.out)
    assert named, loaded.out
    done = here.run("show_queue", "--config", "config.yml", "--detail")
    assert (done.code, done.err) == (0, "")
    assert named[1] in done.out
    assert '"sum"' in done.out
