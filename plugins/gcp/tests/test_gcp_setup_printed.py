"""The shell lines and the Terraform blocks of `cloud-tasks setup gcp --print` make what its API calls make."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from project_admin import ProjectAdmin
from terraform_facts import terraform_resources

from cloud_tasks.cli.commands.cloud._setup_texts import shell_script, terraform_file
from cloud_tasks.plugin import AccountSetup, SetupContext
from cloud_tasks.registry import Registry

CALLER = "controller@p.iam.gserviceaccount.com"
USER = "roles/iam.serviceAccountUser"
VERBS = ("add-iam-policy-binding", "create", "describe", "enable", "update")
GCLOUD = """#!/bin/sh
[ "$*" = "config get account" ] && echo sam@example.com && exit
case "$*" in
  "storage buckets list "*) echo "$EXISTING"; exit ;;
  "iam "*" describe "*) [ -n "$EXISTING" ]; exit ;;
esac
printf '%s\\0' "$@" >>"$CALLS"
while [ $# -gt 0 ]; do [ "$1" = --lifecycle-file ] && cat "$2" >"$CALLS.lifecycle"; shift; done
printf '\\n\\0' >>"$CALLS"
"""
"""A program that records its arguments, and a file that is passed to it; `EXISTING` says whether something exists."""


@pytest.fixture
def project(project: ProjectAdmin) -> ProjectAdmin:
    """Return a project whose caller may use an account by its policy only."""
    project.iam.me = f"serviceAccount:{CALLER}"
    project.iam.add_account(CALLER)
    return project


@pytest.fixture(params=["us-central1", None])
def setup(project: ProjectAdmin, request: pytest.FixtureRequest) -> AccountSetup:
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.setup is not None
    settings = attrs.evolve(project.settings, impersonate_service_account=CALLER)
    return backend.setup(settings, SetupContext(region=request.param))


def made(project: ProjectAdmin, setup: AccountSetup) -> dict[str, Any]:
    """Return what the API calls of the setup make."""
    initial = set(project.enabled)
    for item in setup.items:
        item.make()
    ((robot, resource),) = ((key, each) for key, each in project.iam.accounts.items() if key != CALLER)
    ((name, bucket),) = project.buckets.resources.items()
    (role,) = project.iam.roles.values()
    access = bucket["iamConfiguration"]
    return {
        "services": project.enabled - {"serviceusage.googleapis.com"} | (initial & {"storage.googleapis.com"}),
        "account": (robot.partition("@")[0], resource["displayName"], resource["description"]),
        "role": (role["name"], role["title"], role["description"], set(role["includedPermissions"]), role["stage"]),
        "grants": {
            *((each["role"], *each["members"]) for each in project.policy.bindings if each["role"] != "roles/owner"),
            *((name, each["role"], *each["members"]) for each in project.buckets.policies[name].bindings[1:]),
            *((robot, each["role"], *each["members"]) for each in project.iam.policies[robot].bindings),
        },
        "bucket": {
            "name": name,
            "location": bucket["location"],
            "uniform": access["uniformBucketLevelAccess"]["enabled"],
            "private": access["publicAccessPrevention"] == "enforced",
            "soft_delete": int(bucket["softDeletePolicy"]["retentionDurationSeconds"]),
            "labels": bucket["labels"],
            "rules": days(bucket["lifecycle"]["rule"]),
        },
    }


def days(rules: Any) -> dict[str, Any]:
    return {rule["action"]["type"]: rule["condition"] for rule in rules}


def by_terraform(text: str) -> dict[str, Any]:
    """Return what the resources of a file make."""
    found = terraform_resources(text)
    robot = found["google_service_account.worker"]
    address = f"{robot['account_id']}@{robot['project']}.iam.gserviceaccount.com"
    role, bucket = found["google_project_iam_custom_role.worker"], found["google_storage_bucket.staging"]
    role_name = f"projects/{role['project']}/roles/{role['role_id']}"
    known = {
        "${google_service_account.worker.member}": f"serviceAccount:{address}",
        "${google_service_account.worker.name}": address,
        "${google_project_iam_custom_role.worker.id}": role_name,
        "${google_storage_bucket.staging.name}": bucket["name"],
    }
    grants = set()
    for kind, resource in found.items():
        if kind.partition(".")[0].endswith("_member"):
            place = resource.get("bucket") or resource.get("service_account_id")
            words = [*([place] if place else []), resource["role"], resource["member"]]
            grants.add(tuple(known.get(word, word) for word in words))
            assert resource.get("project", "p") == "p"
            assert set(resource) <= {"project", "bucket", "service_account_id", "role", "member", "depends_on"}
            # The service with the policies of projects must be usable, as that of each other resource.
            assert ("depends_on" in resource) is kind.startswith("google_project_iam_member")
    services = {kind: each for kind, each in found.items() if kind.startswith("google_project_service.")}
    for each in services.values():
        assert (each["project"], each["disable_on_destroy"]) == ("p", False)
    for each in (robot, role, bucket):
        (needed,) = each["depends_on"]
        assert needed.strip("${}") in services
    assert {robot["project"], role["project"], bucket["project"]} == {"p"}
    assert set(bucket) == {
        *("name", "project", "location", "uniform_bucket_level_access", "public_access_prevention", "labels"),
        *("lifecycle_rule", "soft_delete_policy", "depends_on"),
    }
    (soft,) = bucket["soft_delete_policy"]
    rules = [{key: value[0] for key, value in rule.items()} for rule in bucket["lifecycle_rule"]]
    return {
        "services": {each["service"] for each in services.values()},
        "account": (robot["account_id"], robot["display_name"], robot["description"]),
        "role": (role_name, role["title"], role["description"], set(role["permissions"]), role["stage"]),
        "grants": grants,
        "bucket": {
            "name": bucket["name"],
            "location": bucket["location"],
            "uniform": bucket["uniform_bucket_level_access"],
            "private": bucket["public_access_prevention"] == "enforced",
            "soft_delete": soft["retention_duration_seconds"],
            "labels": bucket["labels"],
            "rules": days(rules),
        },
    }


def called(script: str, folder: Path) -> dict[str, list[str]]:
    """Run a script with a `gcloud` that only records; return its arguments by command."""
    program, calls = folder / "gcloud", folder / "calls"
    program.write_text(GCLOUD)
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "TMPDIR": str(folder),
        "EXISTING": "",
    }
    subprocess.run(["sh", "-c", script], env=environment, check=True)
    assert {each.name for each in folder.iterdir()} <= {"gcloud", "calls", "calls.lifecycle"}
    found: dict[str, list[str]] = {}
    for call in calls.read_text().split("\n\0")[:-1]:
        words = call.split("\0")[:-1]
        length = 1 + next(index for index, word in enumerate(words) if word in VERBS)
        command = " ".join(words[:length])
        assert command not in found
        found[command] = words[length:]
    return found


def options(words: list[str]) -> tuple[list[str], Mapping[str, str]]:
    """Return arguments and options; an option without a value is empty."""
    arguments, found = [], {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            arguments.append(word)
        else:
            found[word] = rest.pop(0) if rest and not rest[0].startswith("--") else ""
    return arguments, found


def by_shell(script: str, folder: Path) -> dict[str, Any]:
    """Return what the calls of a script make."""
    calls = {command: options(words) for command, words in called(script, folder).items()}
    (robot,), account_options = calls.pop("iam service-accounts create")
    (role,), role_options = calls.pop("iam roles create")
    (bucket,), created = calls.pop("storage buckets create")
    (changed,), labels = calls.pop("storage buckets update")
    (project,), granted = calls.pop("projects add-iam-policy-binding")
    (read,), reading = calls.pop("storage buckets add-iam-policy-binding")
    (used,), using = calls.pop("iam service-accounts add-iam-policy-binding")
    services, enabled = calls.pop("services enable")
    (network,), described = calls.pop("compute networks describe")
    assert calls == {}
    assert (changed, project, granted["--condition"], network) == (bucket, "p", "None", "default")
    everywhere = (account_options, role_options, created, using, enabled, described)
    assert {each["--project"] for each in everywhere} == {"p"}
    assert set(created) == {
        *("--project", "--location", "--uniform-bucket-level-access", "--public-access-prevention"),
        *("--soft-delete-duration", "--lifecycle-file"),
    }
    name = bucket.removeprefix("gs://")
    key, _, value = labels["--update-labels"].partition("=")
    return {
        "services": set(services),
        "account": (robot, account_options["--display-name"], account_options["--description"]),
        "role": (
            f"projects/p/roles/{role}",
            role_options["--title"],
            role_options["--description"],
            set(role_options["--permissions"].split(",")),
            role_options["--stage"],
        ),
        "grants": {
            (granted["--role"], granted["--member"]),
            (read.removeprefix("gs://"), reading["--role"], reading["--member"]),
            (used, using["--role"], using["--member"]),
        },
        "bucket": {
            "name": name,
            "location": created["--location"].upper(),
            "uniform": created["--uniform-bucket-level-access"] == "",
            "private": created["--public-access-prevention"] == "",
            "soft_delete": int(created["--soft-delete-duration"]),
            "labels": {key: value},
            "rules": days(json.loads((folder / "calls.lifecycle").read_text())["rule"]),
        },
    }


def test_terraform_makes_what_the_calls_make(project: ProjectAdmin, setup: AccountSetup) -> None:
    assert by_terraform(terraform_file("gcp", setup)) == made(project, setup)


def test_shell_script_makes_what_the_calls_make(project: ProjectAdmin, setup: AccountSetup, tmp_path: Path) -> None:
    assert by_shell(shell_script("gcp", setup), tmp_path) == made(project, setup)


def test_shell_script_repeated_makes_nothing_again(setup: AccountSetup, tmp_path: Path) -> None:
    found = called(f"export EXISTING=1; {shell_script('gcp', setup)}", tmp_path)
    assert [each for each in found if each.endswith((" create", " update"))] == []


def test_printed_forms_are_for_the_person_who_will_run_jobs(project: ProjectAdmin, tmp_path: Path) -> None:
    """Its address is unknown: that of the person who runs them, unless it is given."""
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.setup is not None
    found = backend.setup(project.settings, SetupContext())
    for given in ("", "CLOUD_TASKS_CONTROLLER=user:kim@example.com; "):
        folder = tmp_path / (given[:1] or "-")
        folder.mkdir()
        words = called(given + shell_script("gcp", found), folder)["iam service-accounts add-iam-policy-binding"]
        assert options(words)[1]["--member"] == ("user:kim@example.com" if given else "user:sam@example.com")
    text = terraform_file("gcp", found)
    assert 'variable "controller" {' in text
    assert terraform_resources(text)["google_service_account_iam_member.controller"]["member"] == "${var.controller}"


def test_printed_forms_use_the_account_of_the_settings(project: ProjectAdmin) -> None:
    backend = Registry(only=["gcp"]).compute("gcp")
    assert backend.setup is not None
    own = "own@q.iam.gserviceaccount.com"
    settings = attrs.evolve(project.settings, service_account=own, impersonate_service_account=CALLER)
    found = backend.setup(settings, SetupContext())
    resources = terraform_resources(terraform_file("gcp", found))
    assert "google_service_account.worker" not in resources
    assert resources["google_project_iam_member.worker"]["member"] == f"serviceAccount:{own}"
    controller = resources["google_service_account_iam_member.controller"]
    assert controller["service_account_id"] == f"projects/-/serviceAccounts/{own}"
    assert "service-accounts create" not in shell_script("gcp", found)
