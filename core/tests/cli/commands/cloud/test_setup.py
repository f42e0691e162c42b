"""`setup`: what it shows, makes, prints and removes, with a provider whose account is a dictionary."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from memory_commands import MemoryCommands
from terraform_facts import terraform_resources

from cloud_tasks.config import read_record, write_record
from cloud_tasks.errors import CloudTasksError, InputError, ProviderError
from cloud_tasks.plugin import AccountSetup, SetupContext, SetupItem, TerraformBlock


@attrs.define(slots=False)
class Account:
    """An account with a bucket and a role, and the calls that were made."""

    has: set[str] = attrs.field(factory=set)
    problems: dict[str, str] = attrs.field(factory=dict)
    failing: dict[str, CloudTasksError] = attrs.field(factory=dict)
    kept: dict[str, str] = attrs.field(factory=dict)
    calls: list[str] = attrs.field(factory=list)
    contexts: list[SetupContext] = attrs.field(factory=list)

    def setup(self, settings: Any, context: SetupContext) -> AccountSetup:
        self.contexts.append(context)
        return AccountSetup(
            account="account 7",
            identity={"run.zone": "memory-a"},
            settings={"run.staging": "mem://bucket/staging"},
            items=(self.item("bucket"), self.item("role")),
            terraform=(TerraformBlock(kind="terraform"),),
        )

    def item(self, name: str) -> SetupItem:
        resource = TerraformBlock(kind="resource", labels=(f"cloud_{name}", "own"), arguments={"name": name})
        return SetupItem(
            subject=f"{name} own",
            purpose=f"what a {name} is for",
            look=partial(self.look, name),
            make=partial(self.make, name),
            remove=partial(self.remove, name),
            commands=(f"cloud make {name}",),
            terraform=() if name == "role" else (resource,),
        )

    def look(self, name: str) -> str:
        return self.problems.get(name, "") if name in self.has else "missing"

    def make(self, name: str) -> None:
        self.calls.append(f"make {name}")
        if name in self.failing:
            raise self.failing[name]
        self.problems.pop(name, None)
        self.has.add(name)

    def remove(self, name: str) -> str:
        self.calls.append(f"remove {name}")
        if name not in self.kept:
            self.has.discard(name)
        return self.kept.get(name, "")


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOUD_TASKS_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "settings"


@pytest.fixture
def call(account: Account) -> Callable[..., Any]:
    commands = MemoryCommands(compute={"setup": account.setup})
    return lambda *arguments: commands.call("setup", "memory", *arguments, provider=False)


def test_setup_makes_what_is_missing_and_records_it(call: Callable[..., Any], account: Account, home: Path) -> None:
    account.has, account.problems = {"bucket"}, {"bucket": "objects are kept"}
    answer = call("--yes", "--region", "memory")
    assert (answer.code, account.calls) == (0, ["make bucket", "make role"])
    assert "to make  bucket own: what a bucket is for\n           now: objects are kept" in answer.out
    assert "made     role own" in answer.out
    assert (
        "jobs use:\n  run:\n    region: memory\n    staging: mem://bucket/staging\n    zone: memory-a\n" in answer.out
    )
    assert account.contexts == [SetupContext(region="memory", queue="memory")]
    record = read_record("memory", os.environ)
    assert record is not None
    assert record.settings == {"run.region": "memory", "run.staging": "mem://bucket/staging"}
    assert stat.S_IMODE(record.file.stat().st_mode) & stat.S_IWOTH == 0
    assert [each.name for each in home.iterdir()] == ["setup-memory.json"]
    assert f"Recorded in {record.file}" in answer.out


def test_setup_touches_nothing_that_is_as_needed(call: Callable[..., Any], account: Account) -> None:
    account.has = {"bucket", "role"}
    answer = call()
    assert (answer.code, answer.error, account.calls) == (0, None, [])
    assert "to make" not in answer.out
    assert read_record("memory", os.environ) is not None


def test_setup_refuses_a_region_that_does_not_exist(call: Callable[..., Any], account: Account) -> None:
    account.has = {"bucket", "role"}
    answer = call("--yes", "--region", "memry")
    assert isinstance(answer.error, InputError)
    assert str(answer.error) == '--region: region "memry" not found; see: cloud-tasks list-regions --provider memory'
    assert read_record("memory", os.environ) is None


def test_setup_asks_for_regions_only_where_it_may(account: Account) -> None:
    def refuse(*_: object) -> Any:
        raise ProviderError("the service is not enabled")

    commands = MemoryCommands(compute={"setup": account.setup, "open": refuse})
    assert commands.call("setup", "memory", "--yes", "--region", "memry", provider=False).error is None


def test_setup_makes_nothing_without_a_confirmation(call: Callable[..., Any], account: Account) -> None:
    answer = call()
    assert isinstance(answer.error, InputError)
    assert "make 2 items in account 7" in str(answer.error)
    assert "--force to confirm" in str(answer.error)
    assert (account.calls, read_record("memory", os.environ)) == ([], None)


@pytest.mark.parametrize("kind", [ProviderError, InputError])
def test_setup_ends_at_an_item_that_fails_and_goes_on_there(
    call: Callable[..., Any], account: Account, kind: type[CloudTasksError]
) -> None:
    account.failing["role"] = kind("not allowed", hint="ask the owner")
    answer = call("--yes")
    assert isinstance(answer.error, InputError) is (kind is InputError)
    assert str(answer.error) == "role own: not allowed; ask the owner; then repeat this command"
    assert read_record("memory", os.environ) is None
    account.failing.clear()
    assert call("--yes").error is None
    assert account.calls == ["make bucket", "make role", "make role"]


def test_setup_removes_in_reverse_order_and_names_what_stays(call: Callable[..., Any], account: Account) -> None:
    call("--yes")
    account.calls.clear()
    account.kept["bucket"] = "it has 3 objects"
    answer = call("--undo", "--yes")
    assert account.calls == ["remove role", "remove bucket"]
    assert "removed  role own\n  kept     bucket own: it has 3 objects" in answer.out
    assert read_record("memory", os.environ) is None
    account.calls.clear()
    assert "absent   role own\n  kept     bucket own" in call("--undo", "--yes").out
    assert account.calls == ["remove bucket"]


def test_setup_that_undoes_one_account_keeps_the_record_of_another(call: Callable[..., Any], home: Path) -> None:
    write_record("memory", os.environ, identity={"run.zone": "memory-b"}, settings={"run.region": "memory"})
    assert call("--undo", "--yes", "--set", "run.zone=memory-a").error is None
    assert [each.name for each in home.iterdir()] == ["setup-memory.json"]


def test_setup_removes_nothing_without_a_confirmation(call: Callable[..., Any], account: Account) -> None:
    account.has = {"bucket", "role"}
    assert isinstance(call("--undo").error, InputError)
    assert account.calls == []


def test_item_without_a_removal_is_kept_with_the_reason(account: Account) -> None:
    item = attrs.evolve(account.item("service"), remove=attrs.fields(SetupItem).remove.default)
    assert item.remove()


def test_setup_prints_a_shell_script_that_makes_the_items(
    call: Callable[..., Any], account: Account, tmp_path: Path
) -> None:
    script = call("--print", "shell").out
    program = tmp_path / "cloud"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    subprocess.run(["sh", "-c", script], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (tmp_path / "calls").read_text() == "make bucket\nmake role\n"
    assert "# run:\n#   staging: mem://bucket/staging\n#   zone: memory-a\n" in script
    assert (account.calls, read_record("memory", os.environ)) == ([], None)


def test_setup_prints_a_terraform_file(call: Callable[..., Any], account: Account) -> None:
    text = call("--print", "terraform").out
    assert terraform_resources(text) == {"cloud_bucket.own": {"name": "bucket"}}
    assert "role own: what a role is for; not by Terraform" in text
    assert account.calls == []


def test_setup_refuses_options_that_exclude_each_other(call: Callable[..., Any]) -> None:
    assert "--print" in str(call("--print", "shell", "--undo").error)


def test_setup_of_an_unknown_provider_names_those_that_have_one(account: Account) -> None:
    commands = MemoryCommands(compute={"setup": account.setup})
    answer = commands.call("setup", "memry", provider=False)
    assert str(answer.error) == 'no provider "memry" is installed; use memory'
    assert "cloud-tasks[memry]" in str(MemoryCommands().call("setup", "memry", provider=False).error)


def test_setup_of_a_provider_without_one_is_refused() -> None:
    answer = MemoryCommands().call("setup", "memory", provider=False)
    assert str(answer.error) == "memory needs no setup; continue with: cloud-tasks run"


def test_setup_without_a_folder_for_settings_says_what_to_do(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLOUD_TASKS_CONFIG_DIR", str(tmp_path / "file"))
    answer = call("--yes")
    assert (answer.error, answer.code) == (None, 0)
    assert "add these lines to the configuration" in answer.err
    assert call("--undo", "--yes").error is None


def test_doctor_checks_each_item_that_setup_has_made(account: Account) -> None:
    commands = MemoryCommands(compute={"setup": account.setup})
    assert "bucket own" not in commands.call("doctor").out
    commands.call("setup", "memory", "--yes", provider=False)
    assert "ok      bucket own" in commands.call("doctor").out
    account.has, account.problems = {"bucket"}, {"bucket": "objects are kept"}
    account.calls.clear()
    answer = commands.call("doctor")
    assert answer.code == 1
    assert "FAILED  bucket own" in answer.out
    assert "objects are kept" in answer.out
    assert answer.out.count("-> run: cloud-tasks setup memory") == 2
    assert account.calls == []


def test_doctor_takes_nothing_for_missing_that_it_cannot_see(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = MemoryCommands(compute={"setup": account.setup})
    commands.call("setup", "memory", "--yes", provider=False)

    def refuse(name: str) -> str:
        raise ProviderError("missing permission roles.get")

    monkeypatch.setattr(account, "look", refuse)
    answer = commands.call("doctor")
    assert answer.code == 0
    assert "not checked: missing permission roles.get" in answer.out


def test_init_after_a_setup_names_no_staging(account: Account, tmp_path: Path) -> None:
    compute = {"setup": account.setup, "download": lambda settings, context: None, "staging_schemes": ("mem",)}
    commands = MemoryCommands(compute=compute)
    before = commands.call("init", "before")
    assert "Set up the account:  cloud-tasks setup memory" in before.out
    assert "# staging: # required" in (tmp_path / "before" / "config.yml").read_text()
    commands.call("setup", "memory", "--yes", provider=False)
    after = commands.call("init", "after")
    assert (after.error, "Set up the account" in after.out) == (None, False)
    assert "# staging: # default: that of cloud-tasks setup" in (tmp_path / "after" / "config.yml").read_text()
    given = commands.call("init", "given", "--staging", "mem://mine/x")
    assert given.error is None
    assert 'staging: "mem://mine/x"' in (tmp_path / "given" / "config.yml").read_text()
