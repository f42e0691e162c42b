"""`doctor`: findings, suggested fixes, and exit code."""

from __future__ import annotations

import os
import platform
import re
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
from cloud_tasks.errors import InputError, PluginError, ProviderError
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


def test_doctor_exits_with_zero_when_all_checks_pass() -> None:
    answer = MemoryCommands(compute={"check": lambda settings, context: [GOOD]}).call("doctor")
    assert answer.code == 0
    assert "ok      credentials" in answer.out
    assert answer.out.endswith("All checks passed\n")


def test_doctor_exits_with_one_and_suggests_fixes() -> None:
    answer = MemoryCommands(queue={"check": lambda settings, context: [GOOD, BAD]}).call("doctor")
    assert answer.code == 1
    assert "  FAILED  API " in answer.out
    assert "-> cloud services enable machines" in answer.out
    assert "1 of " in answer.out


def test_doctor_prints_findings_as_json() -> None:
    answer = MemoryCommands(pricing={"check": lambda settings, context: [BAD]}).call("doctor", "--json")
    assert answer.data["ok"] is False
    assert finding(answer, "API") == {"by": "memory pricing", **attrs.asdict(BAD)}


def test_doctor_passes_region_and_zone_to_checks() -> None:
    told: list[CheckContext] = []

    def check(settings: Any, context: CheckContext) -> list[Finding]:
        told.append(context)
        return []

    MemoryCommands(compute={"check": check}).call("doctor", "--region", "moon", "--zone", "moon-a")
    assert [(context.region, context.zone) for context in told] == [("moon", "moon-a")]


def test_doctor_passes_the_folder_of_the_configuration_to_checks(tmp_path: Path) -> None:
    found: list[Path] = []

    def check(settings: Any, context: CheckContext) -> list[Finding]:
        found.append(context.submit_dir)
        return []

    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "config.yml").write_text("provider: memory\n")
    MemoryCommands(compute={"check": check}).call("doctor", "--config", "job/config.yml", provider=False)
    assert found == [tmp_path / "job"]


def test_doctor_shows_a_shared_finding_once() -> None:
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
def test_doctor_continues_after_a_check_that_raises(error: Exception, message: str, remedy: str) -> None:
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


def test_doctor_finds_a_missing_setting() -> None:
    @attrs.frozen(kw_only=True)
    class Settings:
        project: str = setting(help="Whose", flag="--project")

    commands = MemoryCommands(compute={"settings": Settings})
    answer = commands.call("doctor", "--json")
    found = finding(answer, "settings")
    assert (found["by"], found["message"]) == ("memory compute", "memory.project: required")
    assert "--project" in found["remedy"]


def test_doctor_without_a_provider_checks_this_machine() -> None:
    answer = MemoryCommands().call("doctor", "--json", provider=False)
    assert answer.code == 0
    assert finding(answer, "provider")["remedy"] == "add --provider or --config"


def test_doctor_notes_the_kind_that_a_provider_lacks() -> None:
    commands = MemoryCommands()
    queue = attrs.evolve(commands.provider.queue, name="post")
    commands.registry.register("post", SimpleNamespace(cloud_tasks_register_queue=hookimpl(lambda: (queue,))))
    answer = commands.call("doctor", "--provider", "post", "--json", provider=False)
    assert answer.code == 0
    assert finding(answer, "compute")["message"] == "not chosen, not checked"
    assert "set compute in the configuration" in finding(answer, "compute")["remedy"]


def test_doctor_finds_a_broken_plugin() -> None:
    commands = MemoryCommands()

    def broken() -> list[Any]:
        raise RuntimeError("rusty")

    commands.registry.register("ruin", SimpleNamespace(cloud_tasks_register_queue=hookimpl(broken)))
    answer = commands.call("doctor", "--json")
    found = finding(answer, "plugins")
    assert answer.code == 1
    assert (found["ok"], "rusty" in found["message"]) == (False, True)


def test_doctor_checks_the_database(tmp_path: Path) -> None:
    new_store(tmp_path, ["a", "b"]).close()
    found = finding(MemoryCommands().call("doctor", "--job-id", "job", "--json"), "database")
    assert (found["ok"], found["message"]) == (True, "job.db: job job, 0 of 2 tasks finished")


def test_doctor_finds_an_invalid_database(tmp_path: Path) -> None:
    (tmp_path / "job.db").write_text("nonsense")
    answer = MemoryCommands().call("doctor", "--job-id", "job", "--json")
    assert (answer.code, finding(answer, "database")["ok"]) == (1, False)


def test_doctor_finds_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    config = load_config(Registry(only=()), file=None, options={"run.db_file": "absent/job.db"}, environ={})
    found = {each.subject: each for each in check_core(config)}
    assert not found["database folder"].ok
    assert found["database folder"].remedy == "choose another location with --db-file"


def test_doctor_finds_a_clock_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cloud_tasks.cli.commands.cloud._doctor_checks.time", SimpleNamespace(time=lambda: 1_900_000_000.0)
    )
    config = load_config(Registry(only=()), file=None, options={}, environ={})
    clock = next(each for each in check_core(config) if each.subject == "clock")
    assert not clock.ok
    assert "differs by" in clock.message


def test_doctor_leaves_no_files(tmp_path: Path) -> None:
    MemoryCommands().call("doctor")
    assert os.listdir(tmp_path) == []


def test_doctor_prints_policies_by_name() -> None:
    documents = {"controller": "role: all", "worker": "role: some\n"}
    commands = MemoryCommands(compute={"policies": lambda settings, context: documents})
    assert commands.call("doctor", "--policy").out == "# controller\nrole: all\n\n# worker\nrole: some\n"
    assert commands.call("doctor", "--policy", "--json").data == documents


def test_doctor_rejects_policy_for_a_provider_without_permissions() -> None:
    error = MemoryCommands().call("doctor", "--policy").error
    assert isinstance(error, InputError)
    assert "memory needs no permissions" in str(error)


# -- report

IDENTIFYING = (
    "arn:aws:iam::123456789012:user/ada",
    "123456789012",
    "ada@example.org",
    "worker@moon-7.iam.gserviceaccount.com",
    "8f14e45f-ceea-467f-a0e6-8a1a1d2b3c4d",
    "AKIAIOSFODNN7EXAMPLE",
    "i-0abc1234def567890",
    "203.0.113.9",
    "ami-0abc1234def567890",
    "ct-rovers-x1y2",
    "cloud-tasks-rovers",
    "fe80::1:2ff:fe3:4",
    "2001:db8:0:1:1:1:1:1",
    "eyJhbGciOiJIUzI1NiJ9abcdefghijklmnopqrstuvwxyz0123",
)


@attrs.frozen(kw_only=True)
class _Account:
    project: str = setting(help="Whose", default="", locates=True)
    labels: dict[str, str] = setting(help="Labels", factory=dict)
    password: str | None = setting(help="Password", default=None, secret=True)
    size: int = setting(help="Size", default=1)


@attrs.frozen(kw_only=True)
class _Required:
    project: str = setting(help="Whose")


def report_of(tmp_path: Path, text: str, *messages: str) -> Answer:
    """Return the report of a configuration whose checks have these messages."""
    (tmp_path / "config.yml").write_text(text)
    (tmp_path / "config.yml").chmod(0o600)
    findings = [Finding(ok=True, subject="check", message=message) for message in messages]
    commands = MemoryCommands(
        queue={"settings": _Account},
        compute={"settings": _Account, "check": lambda *_: findings, "locate": lambda *_: {"account": "acme corp"}},
        pricing={"settings": _Account},
    )
    return commands.call("doctor", "--config", "config.yml", "--report", provider=False)


@pytest.mark.parametrize("text", IDENTIFYING)
def test_doctor_report_has_no_text_that_identifies_whatever_a_check_says(tmp_path: Path, text: str) -> None:
    answer = report_of(tmp_path, "provider: memory\n", f"it is {text}, in /x", f"({text}) again")
    assert answer.code == 0
    assert text not in answer.out
    first, second = (line.split("check", 1)[1] for line in answer.out.splitlines() if " check " in line)
    (name,) = re.findall("<[a-z]+-1>", first)
    assert second.strip() == f"({name}) again"


def test_doctor_report_names_the_settings_whose_texts_it_leaves_out(tmp_path: Path) -> None:
    text = """provider: memory
memory: {project: moon-7, labels: {team: rovers}, password: hunter2!, size: 12}
run: {job_id: craters, region: moon, max_instances: 5, startup_script: "export A=buzz\\nrun aldrin"}
"""
    answer = report_of(
        tmp_path, text, "moon-7 of rovers in moon, hunter2!, export A=buzz", f"acme corp, {tmp_path}/job.db, 127.0.0.1"
    )
    for word in ("moon-7", "rovers", "hunter2!", "buzz", "aldrin", "craters", "acme", str(tmp_path)):
        assert word not in answer.out, word
    assert "memory.project: <memory.project> (section)" in answer.out
    assert "memory.password: <memory.password> (section)" in answer.out
    assert "memory.size: 12 (section)" in answer.out
    assert "run.region: moon (file)" in answer.out
    assert "<memory.project> of <memory.labels> in moon, " in answer.out
    assert "<compute account>, <folder>/job.db, 127.0.0.1" in answer.out


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("projects/lander/global/networks/mare", "network mare of lander"),
        ("s3://lander-code/mare", "bucket lander-code, key mare"),
        ("lander@mare.iam.gserviceaccount.com", "account lander"),
        ("https://lander.queue.core.windows.net/mare", "account lander"),
        ("DefaultEndpointsProtocol=https;AccountName=lander;AccountKey=mare", "account lander"),
        ("/subscriptions/x1/resourceGroups/lander/providers/Microsoft.Network/subnets/mare", "subnet mare in lander"),
    ],
)
def test_doctor_report_has_no_name_that_a_setting_contains(tmp_path: Path, value: str, message: str) -> None:
    text = f"provider: memory\nmemory: {{project: '{value}'}}\nrun: {{region: moon}}\n"
    out = report_of(tmp_path, text, f"{message} in moon").out
    assert ("lander" in out, "mare" in out, "<memory.project> in moon" in out) == (False, False, True)


def test_doctor_report_masks_an_address_that_contains_a_known_name(tmp_path: Path) -> None:
    text = "provider: memory\nmemory: {project: moon-7}\n"
    out = report_of(tmp_path, text, "deploy@moon-7.iam.gserviceaccount.com", "moon-7 is there").out
    assert "deploy" not in out
    assert "<email-1>" in out
    assert "<memory.project> is there" in out


def test_doctor_report_keeps_words_that_identify_nothing(tmp_path: Path) -> None:
    text = """\
provider: memory
memory: {project: default}
run: {region: moon, startup_script: "if true\\ndone\\nexport THE_KEY=hushhush"}
"""
    message = (
        "application default credentials, done in moon: pip install cloud-tasks, at 14:41:14, has the role roles/x.y"
    )
    out = report_of(tmp_path, text, message, "export THE_KEY=hushhush").out
    assert message in out
    assert "hushhush" not in out


@pytest.mark.parametrize("error", [InputError("no region"), ProviderError("no answer"), PluginError("broken")])
def test_doctor_report_is_printed_whatever_cannot_be_found_out(tmp_path: Path, error: Exception) -> None:
    def locate(*_: object) -> dict[str, str]:
        raise error

    commands = MemoryCommands(compute={"locate": locate, "check": lambda *_: [BAD]}, queue={"settings": _Required})
    answer = commands.call("doctor", "--report")
    assert answer.code == 1
    assert BAD.message in answer.out


def test_doctor_report_is_printed_for_a_user_without_a_name_and_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert "## Checks" in MemoryCommands().call("doctor", "--report").out


def test_doctor_report_has_versions_and_failed_checks(tmp_path: Path) -> None:
    answer = report_of(tmp_path, "provider: memory\nrun: {db_file: /proc/none/job.db}\n")
    assert answer.code == 1
    assert f"Python {platform.python_version()} on " in answer.out
    assert "builtin: cloud-tasks " in answer.out
    assert "  FAILED  database folder  " in answer.out
    assert "Read it before you send it" in answer.err


@pytest.mark.parametrize("option", ["--json", "--policy"])
def test_doctor_report_has_one_form(option: str) -> None:
    error = MemoryCommands().call("doctor", "--report", option).error
    assert isinstance(error, InputError)
