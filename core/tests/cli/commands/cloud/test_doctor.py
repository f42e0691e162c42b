"""`doctor`: what it finds, what mends it, and its exit code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from memory_commands import Answer, MemoryCommands
from store_facts import new_store

from cloud_tasks.cli.commands.cloud._doctor_checks import check_core
from cloud_tasks.config import load_config
from cloud_tasks.errors import InputError, ProviderError
from cloud_tasks.plugin import CheckContext, Finding, hookimpl, setting
from cloud_tasks.registry import Registry


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


GOOD = Finding(ok=True, subject="credentials", message="those of ada")
BAD = Finding(ok=False, subject="API", message="it is off", remedy="cloud services enable machines")


def finding(answer: Answer, subject: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in answer.data["findings"] if each["subject"] == subject)
    return found


def test_all_is_well_ends_with_zero() -> None:
    answer = MemoryCommands(compute={"check": lambda settings, context: [GOOD]}).call("doctor")
    assert answer.code == 0
    assert "ok       credentials" in answer.out
    assert answer.out.endswith("All is well\n")


def test_something_missing_ends_with_one_and_says_what_mends_it() -> None:
    answer = MemoryCommands(queue={"check": lambda settings, context: [GOOD, BAD]}).call("doctor")
    assert answer.code == 1
    assert "  MISSING  API " in answer.out
    assert "-> cloud services enable machines" in answer.out
    assert "1 of " in answer.out


def test_the_findings_are_to_be_had_as_json() -> None:
    answer = MemoryCommands(pricing={"check": lambda settings, context: [BAD]}).call("doctor", "--json")
    assert answer.data["ok"] is False
    assert finding(answer, "API") == {"by": "memory pricing", **attrs.asdict(BAD)}


def test_a_check_is_told_the_region_and_the_zone() -> None:
    told: list[CheckContext] = []

    def check(settings: Any, context: CheckContext) -> list[Finding]:
        told.append(context)
        return []

    MemoryCommands(compute={"check": check}).call("doctor", "--region", "moon", "--zone", "moon-a")
    assert [(context.region, context.zone) for context in told] == [("moon", "moon-a")]


def test_what_two_backends_find_alike_is_told_once() -> None:
    both = {"check": lambda settings, context: [BAD]}
    answer = MemoryCommands(queue=both, compute=both).call("doctor", "--json")
    assert [each["subject"] for each in answer.data["findings"]].count("API") == 1


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (ValueError("oh"), "the check itself failed: ValueError: oh", "please report it to the plugin's author"),
        (ProviderError("refused", hint="log in"), "the check itself failed: refused", "log in"),
    ],
)
def test_a_check_that_raises_is_a_finding_and_keeps_no_other_from_being_made(
    error: Exception, message: str, remedy: str
) -> None:
    def check(settings: Any, context: Any) -> Iterator[Finding]:
        yield GOOD
        raise error

    answer = MemoryCommands(queue={"check": check}, compute={"check": lambda settings, context: [BAD]}).call(
        "doctor", "--json"
    )
    found = finding(answer, "check")
    assert (found["ok"], found["message"], found["remedy"]) == (False, message, remedy)
    assert finding(answer, "API")["by"] == "memory compute"
    assert finding(answer, "credentials")["ok"]


def test_a_setting_that_is_missing_is_a_finding() -> None:
    @attrs.frozen(kw_only=True)
    class Settings:
        project: str = setting(help="Whose", flag="--project")

    commands = MemoryCommands(compute={"settings": Settings})
    answer = commands.call("doctor", "--json")
    found = finding(answer, "settings")
    assert (found["by"], found["message"]) == ("memory compute", "memory.project: is required")
    assert "--project" in found["remedy"]


def test_without_a_provider_only_this_machine_is_checked() -> None:
    answer = MemoryCommands().call("doctor", "--json", provider=False)
    assert answer.code == 0
    assert finding(answer, "provider")["remedy"] == "give --provider or --config"


def test_a_broken_plugin_is_found() -> None:
    commands = MemoryCommands()

    def broken() -> list[Any]:
        raise RuntimeError("rusty")

    commands.registry.register("ruin", SimpleNamespace(cloud_tasks_register_queue=hookimpl(broken)))
    answer = commands.call("doctor", "--json")
    found = finding(answer, "plugins")
    assert answer.code == 1
    assert (found["ok"], "rusty" in found["message"]) == (False, True)


def test_the_database_is_looked_at(tmp_path: Path) -> None:
    new_store(tmp_path, ["a", "b"]).close()
    found = finding(MemoryCommands().call("doctor", "--job-id", "job", "--json"), "database")
    assert (found["ok"], found["message"]) == (True, "job.db: job job, 0 of 2 tasks have ended")


def test_a_file_that_is_no_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "job.db").write_text("nonsense")
    answer = MemoryCommands().call("doctor", "--job-id", "job", "--json")
    assert (answer.code, finding(answer, "database")["ok"]) == (1, False)


def test_a_folder_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    config = load_config(Registry(only=()), file=None, options={"run.db_file": "absent/job.db"}, environ={})
    found = {each.subject: each for each in check_core(config)}
    assert not found["database folder"].ok
    assert found["database folder"].remedy == "choose another place with --db-file"


def test_a_file_system_with_another_time_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cloud_tasks.cli.commands.cloud._doctor_checks.time", SimpleNamespace(time=lambda: 1_900_000_000.0)
    )
    config = load_config(Registry(only=()), file=None, options={}, environ={})
    clock = next(each for each in check_core(config) if each.subject == "clock")
    assert not clock.ok
    assert "differs by" in clock.message


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    MemoryCommands().call("doctor")
    assert os.listdir(tmp_path) == []


def test_the_policies_are_printed_by_name() -> None:
    documents = {"controller": "role: all", "worker": "role: some\n"}
    commands = MemoryCommands(compute={"policies": lambda settings, context: documents})
    assert commands.call("doctor", "--policy").out == "# controller\nrole: all\n\n# worker\nrole: some\n"
    assert commands.call("doctor", "--policy", "--json").data == documents


def test_a_provider_without_policies_says_so() -> None:
    error = MemoryCommands().call("doctor", "--policy").error
    assert isinstance(error, InputError)
    assert "memory needs no permissions" in str(error)
