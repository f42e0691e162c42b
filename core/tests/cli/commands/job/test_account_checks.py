"""The checks of the provider's account at the start of a run: problems prevent it, doubts are warnings."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from memory_commands import Answer, MemoryCommands
from store_facts import at, instance, launch_request, new_store

from cloud_tasks.config import JobConfig, load_config
from cloud_tasks.controller.setup.provider_checks import AccountError, check_account, check_context
from cloud_tasks.errors import ProviderError
from cloud_tasks.plugin import CheckContext, Finding

NO_NETWORK = Finding(
    ok=False, subject="network", message="no subnet found", remedy="create a network", prevents_run=True
)
NO_ROLE = Finding(ok=False, subject="identity", message="no role", remedy="set memory.role", prevents_run=True)
DOUBT = Finding(ok=False, subject="quota", message="cannot be read", remedy="see the console")
GOOD = Finding(ok=True, subject="credentials", message="those of ada", prevents_run=True)

Check = Callable[[Any, CheckContext], Iterable[Finding]]


def returning(*findings: Any) -> Check:
    return lambda settings, context: findings


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps([{"task_id": "a", "data": {}}]), encoding="utf-8")


def call(commands: MemoryCommands, command: str, *arguments: str) -> Answer:
    job = () if command == "plan" else ("--job-id", "job", "--startup-script", "exec sleep 1")
    return commands.call(command, *job, "--task-file", "tasks.json", "--max-instances", "1", *arguments)


def configuration(commands: MemoryCommands, **run: Any) -> JobConfig:
    options = {"provider": "memory", **{f"run.{key}": value for key, value in run.items()}}
    return load_config(commands.registry, file=None, options=options, environ=os.environ)


@pytest.mark.parametrize("command", [("run",), ("run", "--force"), ("run", "--dry-run"), ("plan",), ("plan", "--json")])
def test_run_and_plan_name_each_problem_of_the_account_and_change_nothing(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    commands = MemoryCommands(
        queue={"check": returning(GOOD, NO_ROLE)}, compute={"check": returning(GOOD, NO_NETWORK, NO_ROLE)}
    )
    before = sorted(tmp_path.rglob("*"))
    answer = call(commands, *command)
    assert isinstance(answer.error, AccountError)
    assert answer.error.problems == (
        "memory: identity: no role; set memory.role",
        "memory: network: no subnet found; create a network",
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert not commands.provider.instances.ours()
    assert commands.provider.queues.messages == {}


def test_plan_with_a_problem_of_the_account_shows_the_offers_before_it() -> None:
    answer = call(MemoryCommands(compute={"check": returning(NO_NETWORK)}), "plan")
    assert "memory-" in answer.out
    assert isinstance(answer.error, AccountError)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_run_and_plan_without_checks_ignore_problems(command: str) -> None:
    commands = MemoryCommands(compute={"check": returning(NO_NETWORK)})
    assert call(commands, command, "--no-checks", *(["--dry-run"] if command == "run" else [])).code == 0


def test_check_context_has_the_urls_that_instances_use() -> None:
    config = configuration(
        MemoryCommands(),
        result_store="s3://data/results",
        log_store="logs",
        startup_script="#!/bin/bash\nBUCKET=s3://code/job\nfetch \"$BUCKET/a\" 'https://example.org/x'; fetch s3://code/job\n",
    )
    context = check_context(config)
    assert context.stores == ("s3://data/results",)
    assert context.downloads == ("s3://code/job", "https://example.org/x")
    assert check_context(configuration(MemoryCommands())).downloads == ()


def test_plan_shows_doubts_as_warnings() -> None:
    answer = call(MemoryCommands(compute={"check": returning(DOUBT)}, queue={"check": returning(DOUBT)}), "plan")
    assert answer.code == 0
    assert answer.err.count("Warning: memory: quota: cannot be read; see the console\n") == 1


def test_checks_receive_the_first_launch_and_the_queue_of_a_run() -> None:
    seen: list[CheckContext] = []

    def check(settings: Any, context: CheckContext) -> Iterator[Finding]:
        seen.append(context)
        yield GOOD

    assert call(MemoryCommands(compute={"check": check}), "run", "--dry-run", "--image", "ubuntu").code == 0
    (context,) = seen
    assert context.launch is not None
    assert context.launch.image == "ubuntu"
    assert context.launch.offer.instance_type.name.startswith("memory-")
    assert context.queue == "memory"


def test_checks_explain_a_failed_ranking() -> None:
    def refuse(settings: Any, context: Any) -> Any:
        raise ProviderError("no credentials found")

    commands = MemoryCommands(compute={"open": refuse, "check": returning(NO_ROLE)})
    for command in (("plan",), ("run", "--dry-run")):
        assert isinstance(call(commands, *command).error, AccountError)
    commands = MemoryCommands(compute={"open": refuse, "check": returning(DOUBT)})
    assert str(call(commands, "plan").error) == "no credentials found"


def failing(error: BaseException) -> Check:
    def check(settings: Any, context: CheckContext) -> Iterator[Finding]:
        yield GOOD
        raise error

    return check


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def endless(settings: Any, context: CheckContext) -> Iterator[Finding]:
    while True:
        yield DOUBT


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (failing(ValueError("\x1b[31mlost\nits way")), r"ValueError: \x1b[31mlost\nits way; please report it"),
        (failing(SystemExit(3)), "SystemExit: 3"),
        (failing(ProviderError("the service is away", hint="wait")), "failed: the service is away; wait"),
        (returning("all right"), "TypeError: expected a Finding, got str"),
        (returning(Finding(ok=False, subject="a", message=Odd())), "RuntimeError: no text"),  # type: ignore[arg-type]
        (lambda settings, context: None, "TypeError: "),
        (list, "TypeError: "),
        (endless, "cannot be read"),
        (returning(Finding(ok=False, subject="a\nb", message="c")), r"memory: a\nb: c"),
        (returning(Finding(ok=None, subject="a", message=7)), "memory: a: 7"),  # type: ignore[arg-type]
    ],
)
def test_check_that_fails_itself_is_a_warning(check: Any, expected: str) -> None:
    warnings = check_account(configuration(MemoryCommands(compute={"check": check})))
    assert [expected in line for line in warnings] == [True]
    assert all("\n" not in line for line in warnings)


def test_check_without_an_answer_is_a_warning_and_its_problems_count() -> None:
    answered = threading.Event()

    def silent(settings: Any, context: CheckContext) -> Iterator[Finding]:
        yield DOUBT
        answered.wait()

    config = configuration(MemoryCommands(compute={"check": silent}, queue={"check": returning(NO_ROLE)}))
    with pytest.raises(AccountError, match="no role"):
        check_account(config, timeout=0.2)
    config = configuration(MemoryCommands(compute={"check": silent}))
    warnings = check_account(config, timeout=0.2)
    assert warnings == (
        "memory: quota: cannot be read; see the console",
        "memory: the account could not be checked within 0.2s",
    )
    answered.set()


def test_backend_without_checks_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert check_account(configuration(MemoryCommands())) == ()


@pytest.mark.parametrize("has_instance", [True, False])
def test_resumed_run_with_instances_is_only_warned(tmp_path: Path, has_instance: bool) -> None:
    commands = MemoryCommands(compute={"check": returning(NO_NETWORK)})
    with new_store(tmp_path, ["a"]) as store:
        if has_instance:
            store.record_intents([launch_request("t")], at(0))
            store.record_launched("t", instance("i-1", "t"))
    answer = call_resumed(commands)
    assert (answer.error is None) is has_instance
    assert ("WARNING - memory: network: no subnet found; create a network" in answer.err) is has_instance
    if not has_instance:
        assert isinstance(answer.error, AccountError)


def call_resumed(commands: MemoryCommands) -> Answer:
    options = ("--job-id", "job", "--startup-script", "exec sleep 1", "--max-instances", "1")
    return commands.call("run", *options, "--continue", "--dry-run")


SOON = datetime.now(UTC) + timedelta(hours=2)


@pytest.mark.parametrize(
    ("read", "options", "warns"),
    [
        (lambda settings: SOON, [], True),
        (lambda settings: SOON.replace(tzinfo=None), [], True),
        # The job's task takes an hour at most.
        (lambda settings: SOON, ["--max-runtime", "1h"], False),
        (lambda settings: SOON, ["--max-runtime", "3h"], True),
        (lambda settings: None, [], False),
        (lambda settings: "soon", [], False),
        (lambda: SOON, [], False),
    ],
)
def test_run_warns_of_credentials_that_end_before_the_job_is_likely_to(
    read: Any, options: list[str], warns: bool
) -> None:
    answer = call(MemoryCommands(compute={"credentials_end": read}), "run", "--dry-run", *options)
    assert answer.code == 0
    assert answer.err.count("The credentials of memory end at ") == warns
