"""``cleanup``: terminates own expired instances only, after confirmation."""

from __future__ import annotations

import json
import time
from pathlib import Path

from command_line import CommandLine

from cloud_tasks.controller.launch.labels import owner_label

PAST, FUTURE = "1000", str(int(time.time()) + 86400)


def launch_all(shell: CommandLine) -> dict[str, str]:
    """Launch an expired, a current and an unmanaged instance; return their ids by kind."""
    me = owner_label()
    return {
        "expired": shell.launch("a", job_id="one", owner=me, expires=PAST).instance_id,
        "current": shell.launch("b", job_id="two", owner=me, expires=FUTURE).instance_id,
        "foreign": shell.launch("c", job_id="three", owner="somebody-else", expires=PAST).instance_id,
    }


def test_cleanup_terminates_only_own_expired_instances(shell: CommandLine) -> None:
    found = launch_all(shell)
    swept = shell.run("cleanup", "--provider", "local", "--force")
    assert (swept.code, shell.running()) == (0, {found["current"], found["foreign"]})
    assert "Terminated 1 instance" in swept.out


def test_cleanup_includes_unexpired_and_other_owners_on_request(shell: CommandLine) -> None:
    found = launch_all(shell)
    assert shell.run("cleanup", "--provider", "local", "--all", "--force").code == 0
    assert shell.running() == {found["foreign"]}
    assert shell.run("cleanup", "--provider", "local", "--any-owner", "--force").code == 0
    assert shell.running() == set()


def test_cleanup_terminates_nothing_without_confirmation(shell: CommandLine) -> None:
    found = launch_all(shell)
    refused = shell.run("cleanup", "--provider", "local")
    assert (refused.code, shell.running()) == (2, set(found.values()))
    assert refused.err.splitlines() == [
        "Error: this would terminate 1 instance; add --force to confirm, or --list to only show them"
    ]
    assert found["expired"] in refused.out


def test_cleanup_list_changes_nothing(shell: CommandLine) -> None:
    found = launch_all(shell)
    listed = shell.run("cleanup", "--provider", "local", "--list", "--json", "--all")
    assert {entry["instance_id"] for entry in json.loads(listed.out)} == {found["expired"], found["current"]}
    assert shell.running() == set(found.values())


def test_cleanup_of_one_job(shell: CommandLine) -> None:
    found = launch_all(shell)
    assert shell.run("cleanup", "--provider", "local", "--job-id", "two", "--all", "--force").code == 0
    assert shell.running() == {found["expired"], found["foreign"]}


def test_cleanup_with_the_configuration_of_a_job_includes_all_jobs(shell: CommandLine, tmp_path: Path) -> None:
    found = launch_all(shell)
    file = tmp_path / "config.yml"
    file.write_text("provider: local\nrun:\n  job_id: squares\n")
    assert shell.run("cleanup", "--config", str(file), "--force").code == 0
    assert shell.running() == {found["current"], found["foreign"]}


def test_cleanup_names_the_job_that_it_is_restricted_to(shell: CommandLine) -> None:
    launch_all(shell)
    answer = shell.run("cleanup", "--provider", "local", "--job-id", "two", "--list")
    assert "Nothing to terminate of job two" in answer.out
    assert "Skipped 1 other instance of job two" in answer.out


def test_cleanup_skips_instances_without_an_expiry(shell: CommandLine) -> None:
    kept = shell.launch("a", owner=owner_label()).instance_id
    assert "Nothing to terminate" in shell.run("cleanup", "--provider", "local").out
    assert shell.running() == {kept}


def test_cleanup_requires_a_provider(shell: CommandLine) -> None:
    refused = shell.run("cleanup")
    assert refused.code == 2
    assert refused.err.startswith("Error: no provider given")


def test_cleanup_accepts_its_former_name_with_a_warning(shell: CommandLine) -> None:
    launch_all(shell)
    listing = ("--provider", "local", "--list", "--all", "--json")
    current, former = shell.run("cleanup", *listing), shell.run("sweep", *listing)
    assert (former.code, former.out) == (0, current.out)
    assert former.err.splitlines() == ['Warning: command "sweep" was renamed; use "cleanup"']
    assert "sweep" not in shell.run("--help").out
