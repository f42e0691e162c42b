"""Pure functions of the worker: retry rules, outcomes, settings, packing of events, options, commands, channels."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_tasks.errors import InputError
from cloud_tasks.model import AttemptOutcome, EventType
from cloud_tasks.plugin import setting
from cloud_tasks.retry_rule import RetryRule, format_rules, parse_rules
from cloud_tasks.setting_values.plain import structure_setting
from cloud_tasks.setting_values.text import parse_setting
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.memfd import file_on_disk
from cloud_tasks.worker.options import apply_options, extend_parser
from cloud_tasks.worker.reporting.durable_sinks import pack
from cloud_tasks.worker.supervisor.environment import settings_from_environment
from cloud_tasks.worker.supervisor.execution import outcome as outcome_module
from cloud_tasks.worker.supervisor.execution.completion import _EVENT_TYPES
from cloud_tasks.worker.supervisor.execution.outcome import Outcome, OutcomeKind, read_outcome
from cloud_tasks.worker.supervisor.execution.retry_policy import Backoff, RetryRules


def rules(**given: Any) -> RetryRules:
    options = {
        "retry_rules": None, "retry_on_exit": None, "retry_on_exception": None, "retry_on_timeout": None,
        "max_attempts": 3, "max_losses": 10, "backoff_base": 1.0, "backoff_cap": 60.0,
        "earlier_attempts": 0,
    }  # fmt: skip
    return RetryRules.of(SimpleNamespace(**(options | given)))


def test_retry_rules_allow_one_attempt_of_a_failure_that_no_rule_matches() -> None:
    kinds = (OutcomeKind.EXCEPTION, OutcomeKind.EXITED, OutcomeKind.TIMED_OUT)
    assert [rules().attempts(Outcome(kind=kind)) for kind in kinds] == [1, 1, 1]
    assert rules().attempts(Outcome(kind=OutcomeKind.RETRY_REQUESTED)) == 3
    assert rules(retry_on_exit=True).attempts(Outcome(kind=OutcomeKind.EXITED)) == 3


@pytest.mark.parametrize(
    "text", ["no", "{}", '[{"on": "rain"}]', '[{"on": "exit", "code": 3}]', '[{"on": "exit", "codes": 3}]']
)
def test_retry_rules_reject_invalid_text(text) -> None:
    with pytest.raises(InputError):
        rules(retry_rules=text)


def test_backoff_of_a_rerun_task_starts_again() -> None:
    again, raised = rules(earlier_attempts=7, max_attempts=10), Outcome(kind=OutcomeKind.EXCEPTION)
    for attempt, longest in [(1, 1.0), (7, 1.0), (8, 1.0), (9, 2.0), (10, 4.0)]:
        assert longest / 2 <= again.delay(raised, attempt) <= longest
    # Interruptions are counted from zero by each run.
    assert 4.0 <= again.interruption_delay(raised, 4) <= 8.0


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1))
def test_backoff_grows_up_to_its_cap(attempt, jitter) -> None:
    assert 0.5 <= Backoff(base=1, cap=60).delay(attempt, jitter) <= 60
    assert Backoff(base=1, cap=60).delay(attempt, 1.0) == min(60, 2.0 ** min(attempt - 1, 60))


@given(content=st.binary(max_size=200), status=st.sampled_from([0, 256, 9, 11, 64 << 8]))
def test_read_outcome_ignores_an_incomplete_report(content, status) -> None:
    assert read_outcome(status=status, content=content, cause="").kind in (
        OutcomeKind.EXITED,
        OutcomeKind.COMPLETED,
        OutcomeKind.RETRY_REQUESTED,
        OutcomeKind.EXCEPTION,
    )


def test_outcome_kinds_are_those_of_the_model_and_released() -> None:
    names = {kind.name: kind.value for kind in OutcomeKind}
    assert names.pop("RELEASED") == EventType.TASK_RELEASED.value.removeprefix("task_")
    assert names == {outcome.name: outcome.value for outcome in AttemptOutcome}


def test_worker_sends_only_event_types_of_the_model() -> None:
    senders = re.compile(r'\.(?:_?encode|report)\(\s*"(\w+)"')
    folder = Path(outcome_module.__file__).parents[2]
    sent = {name for path in folder.glob("**/*.py") for name in senders.findall(path.read_text(encoding="utf-8"))}
    assert {"worker_started", "task_started", "task_dead"} <= sent
    assert sent | set(_EVENT_TYPES.values()) <= {event_type.value for event_type in EventType}
    assert _EVENT_TYPES.keys() == set(OutcomeKind)


@given(events=st.lists(st.binary(min_size=1, max_size=50), max_size=40), limit=st.integers(60, 300))
def test_pack_keeps_the_order_of_events_and_the_size_limit(events, limit) -> None:
    bodies = pack(events, limit)
    assert all(len(body) <= limit for body in bodies)
    assert b",".join(body[1:-1] for body in bodies) == b",".join(events)


@attrs.frozen(kw_only=True)
class Settings:
    project_id: str | None = setting(help="project", default=None)
    folder: Path = setting(help="folder", default=Path("."))
    size: int = setting(help="size", default=1)
    share: float | None = setting(help="share", default=None)
    on: bool = setting(help="on", default=False)
    key: str = setting(help="key", env="OTHER_KEY", default="")


def test_settings_from_environment_converts_values_to_their_types() -> None:
    environ = {
        "CLOUD_TASKS_X_FOLDER": "/data", "RMS_CLOUD_TASKS_X_SIZE": "7", "CLOUD_TASKS_X_SHARE": "0.5",
        "CLOUD_TASKS_X_ON": "true", "OTHER_KEY": "k", "CLOUD_TASKS_PROJECT_ID": "p",
    }  # fmt: skip
    expected = Settings(project_id="p", folder=Path("/data"), size=7, share=0.5, on=True, key="k")
    assert settings_from_environment(Settings, "x", environ) == expected
    assert settings_from_environment(Settings, "x", {}) == Settings()
    with pytest.raises(InputError, match="CLOUD_TASKS_X_SIZE"):
        settings_from_environment(Settings, "x", {"CLOUD_TASKS_X_SIZE": "many"})


def test_apply_options_names_the_variable_of_an_invalid_value() -> None:
    parser = argparse.ArgumentParser()
    extend_parser(parser)
    with pytest.raises(InputError, match="RMS_CLOUD_TASKS_MAX_RUNTIME"):
        apply_options(SimpleNamespace(), parser.parse_args([]), {"RMS_CLOUD_TASKS_MAX_RUNTIME": "long"})


def test_extend_parser_keeps_an_option_of_the_program_with_the_same_flag() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=str)
    extend_parser(parser)
    assert parser.parse_args(["--memory", "good"]).memory == "good"


@pytest.mark.parametrize(
    ("output", "code", "cause"),
    [
        ("hello\nbash: line 1: samtools: command not found\n", 127, "samtools: command not found"),
        ("bash: line 3: samtools: command not found\nbuffered output\n", 127, "samtools: command not found"),
        ("sh: 1: samtools: not found\n", 127, "samtools: not found"),
        ("/bin/sh: 12: x: Permission denied\n\n", 126, "x: Permission denied"),
        ("one\n  two: no such file  \n\n", 1, "two: no such file"),
        ('Traceback (most recent call last):\n  File "x", line 1\nKeyError: 1\nflushed late\n', 1, "KeyError: 1"),
        ("x" * 10_000, 1, "x" * 499 + "…"),
        ("", 3, "the process exited without reporting a result"),
    ],
)
def test_cause_of_an_exit_is_the_last_line_of_the_output(output: str, code: int, cause: str) -> None:
    outcome = read_outcome(status=code << 8, content=b"", cause="", tail=output.encode())
    assert outcome.details["cause"] == cause
    assert outcome.exit_code == code


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_channel_delivers_messages_of_any_size(size) -> None:
    left, right = socket.socketpair()
    sender, receiver = Channel(left, blocking=False), Channel(right, blocking=False)
    sender.put((1, b"x" * size))
    sender.put((2, "next"))
    messages: list[Any] = []
    while len(messages) < 2:
        sender.flush()
        messages += receiver.get()
    assert messages == [(1, b"x" * size), (2, "next")]
    sender.close()
    with pytest.raises(ChannelClosedError):
        receiver.get()
    receiver.close()


def test_channel_delivers_descriptors_in_the_order_of_their_messages() -> None:
    left, right = socket.socketpair()
    sender, receiver = Channel(left, blocking=True), Channel(right, blocking=True)
    for name in (b"first", b"second"):
        descriptor = os.memfd_create("x")
        os.write(descriptor, name)
        sender.put_with_descriptor(("d", name), descriptor)
        os.close(descriptor)
    messages: list[Any] = []
    while len(messages) < 2:
        messages += receiver.get()
    for _, name in messages:
        descriptor = receiver.take_descriptor()
        assert os.pread(descriptor, 100, 0) == name
        os.close(descriptor)
    sender.close()
    receiver.close()


@pytest.mark.parametrize("folder", ["", "missing"])
def test_file_on_disk_leaves_no_file_and_appends_if_asked(folder: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for flags, content in (0, b"new"), (os.O_APPEND, b"oldnew"):
        descriptor = file_on_disk("some-name", flags)
        os.write(descriptor, b"old")
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"new")
        assert os.pread(descriptor, 10, 0) == content
        assert not os.get_inheritable(descriptor)
        assert os.fstat(descriptor).st_nlink == 0
        os.close(descriptor)
    assert not any(tmp_path.iterdir())


# -- retry rules: one parser for the configuration and the worker --------------------------------------------------

_NAMES = st.from_regex(r"[A-Za-z_]{1,8}(\.[A-Za-z_]{1,8})?", fullmatch=True)
_ATTEMPTS = st.none() | st.integers(1, 99)
_RULES = st.one_of(
    st.builds(RetryRule, st.just("exit"), st.lists(st.integers(-64, 255)).map(tuple), st.just(()), _ATTEMPTS),
    st.builds(RetryRule, st.just("exception"), st.just(()), st.lists(_NAMES).map(tuple), _ATTEMPTS),
    st.builds(RetryRule, st.just("timeout"), st.just(()), st.just(()), _ATTEMPTS),
)


@given(st.lists(_RULES).map(tuple))
def test_parse_rules_inverts_format_rules(given: tuple[RetryRule, ...]) -> None:
    assert parse_rules(format_rules(given)) == given
    assert parse_setting(format_rules(given), tuple[RetryRule, ...]) == given


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"on": "timeout", "codes": [1]}, '"codes" is valid with "on: exit" only'),
        ({"on": "exit", "types": ["OSError"]}, '"types" is valid with "on: exception" only'),
        ({"on": "exit", "attempts": 0}, "attempts: 0 is below 1"),
        ({"on": "exit", "attempts": True}, "attempts: expected a whole number, got true"),
        ({"on": "exit", "codes": ["137"]}, 'codes: expected a whole number, got "137"'),
        ({"on": "exit", "codes": "137"}, 'codes: expected a list, got "137"'),
        ({"on": "exception", "types": [3]}, "types: expected the name of an exception class, got 3"),
        ({"on": ["exit"]}, "a list is not one of exit, exception, timeout"),
        ({"on": None}, "on is missing"),
        ({"on": "exit", "code": 1}, "unknown key: code"),
        ("exit", 'expected a mapping, got "exit"'),
    ],
)
def test_rule_parsers_of_configuration_and_worker_reject_a_rule_for_the_same_reason(entry: object, reason: str) -> None:
    with pytest.raises(InputError) as on_worker:
        rules(retry_rules=json.dumps([{"on": "exit"}, entry]))
    assert str(on_worker.value) == f"retry_rules: rule 2: {reason}"
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        structure_setting([{"on": "exit"}, entry], tuple[RetryRule, ...])


def test_retry_rules_apply_the_first_match() -> None:
    exits = '{"on": "exit", "codes": [137], "attempts": 5}, {"on": "exit"}'
    found = rules(retry_rules=f'[{exits}, {{"on": "exception", "types": "a.MyError OSError"}}]', max_attempts=4)
    assert found.attempts(Outcome(kind=OutcomeKind.EXITED, exit_code=-9)) == 5
    assert found.attempts(Outcome(kind=OutcomeKind.EXITED, exit_code=1)) == 4
    assert found.attempts(Outcome(kind=OutcomeKind.EXCEPTION, kinds=("MyError", "Exception"))) == 4
    assert found.attempts(Outcome(kind=OutcomeKind.EXCEPTION, kinds=("ValueError",))) == 1
    assert found.attempts(Outcome(kind=OutcomeKind.TIMED_OUT)) == 1
