"""The pure parts: retry rules, outcomes, settings, packing, options, commands."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import socket
import subprocess
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
from cloud_tasks.plugin.setting_text import parse_setting
from cloud_tasks.plugin.setting_values import structure_setting
from cloud_tasks.retry_rule import RetryRule, format_rules, parse_rules
from cloud_tasks.worker.common.ipc import Channel, ChannelClosedError
from cloud_tasks.worker.common.memfd import nameless_file
from cloud_tasks.worker.options import apply_options, extend_parser
from cloud_tasks.worker.reporting.durable_sinks import pack
from cloud_tasks.worker.shell_command import fill_in
from cloud_tasks.worker.supervisor import outcome as outcome_module
from cloud_tasks.worker.supervisor.completion import _EVENTS as COMPLETION_EVENTS
from cloud_tasks.worker.supervisor.environment import settings_from_environment
from cloud_tasks.worker.supervisor.outcome import Outcome, OutcomeKind, read_outcome
from cloud_tasks.worker.supervisor.retry_policy import Backoff, RetryRules


def rules(**given: Any) -> RetryRules:
    options = {
        "retry_rules": None, "retry_on_exit": None, "retry_on_exception": None, "retry_on_timeout": None,
        "max_attempts": 3, "max_losses": 10, "backoff_base": 1.0, "backoff_cap": 60.0,
    }  # fmt: skip
    return RetryRules.of(SimpleNamespace(**(options | given)))


def test_a_kind_that_is_switched_off_has_one_attempt() -> None:
    kinds = (OutcomeKind.EXCEPTION, OutcomeKind.EXITED, OutcomeKind.TIMED_OUT)
    assert [rules().attempts(Outcome(kind=kind)) for kind in kinds] == [1, 1, 1]
    assert rules().attempts(Outcome(kind=OutcomeKind.RETRY_REQUESTED)) == 3
    assert rules(retry_on_exit=True).attempts(Outcome(kind=OutcomeKind.EXITED)) == 3


@pytest.mark.parametrize(
    "text", ["no", "{}", '[{"on": "rain"}]', '[{"on": "exit", "code": 3}]', '[{"on": "exit", "codes": 3}]']
)
def test_rules_that_cannot_be_understood_are_refused(text) -> None:
    with pytest.raises(InputError):
        rules(retry_rules=text)


@given(attempt=st.integers(1, 10_000), draw=st.floats(0, 1))
def test_back_off_grows_up_to_its_cap(attempt, draw) -> None:
    assert 0.5 <= Backoff(base=1, cap=60).delay(attempt, draw) <= 60
    assert Backoff(base=1, cap=60).delay(attempt, 1.0) == min(60, 2.0 ** min(attempt - 1, 60))


@given(content=st.binary(max_size=200), status=st.sampled_from([0, 256, 9, 11, 64 << 8]))
def test_a_report_that_is_not_whole_counts_as_none(content, status) -> None:
    assert read_outcome(status=status, content=content, cause="").kind in (
        OutcomeKind.EXITED,
        OutcomeKind.COMPLETED,
        OutcomeKind.RETRY_REQUESTED,
        OutcomeKind.EXCEPTION,
    )


def test_outcome_kinds_are_those_of_the_model_and_a_release() -> None:
    names = {kind.name: kind.value for kind in OutcomeKind}
    assert names.pop("RELEASED") == EventType.TASK_RELEASED.value.removeprefix("task_")
    assert names == {outcome.name: outcome.value for outcome in AttemptOutcome}


def test_the_worker_sends_no_event_type_that_the_model_does_not_know() -> None:
    senders = re.compile(r'\.(?:make|report)\(\s*"(\w+)"')
    folder = Path(outcome_module.__file__).parents[1]
    sent = {name for path in folder.glob("**/*.py") for name in senders.findall(path.read_text(encoding="utf-8"))}
    assert {"worker_started", "task_started", "task_released"} <= sent
    assert sent | set(COMPLETION_EVENTS.values()) <= {event_type.value for event_type in EventType}
    assert COMPLETION_EVENTS.keys() == set(OutcomeKind) - {OutcomeKind.LOST, OutcomeKind.RELEASED}


@given(events=st.lists(st.binary(min_size=1, max_size=50), max_size=40), limit=st.integers(60, 300))
def test_packed_events_stay_in_order_and_below_the_limit(events, limit) -> None:
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


def test_settings_come_from_the_environment_by_their_type() -> None:
    environ = {
        "CLOUD_TASKS_X_FOLDER": "/data", "RMS_CLOUD_TASKS_X_SIZE": "7", "CLOUD_TASKS_X_SHARE": "0.5",
        "CLOUD_TASKS_X_ON": "true", "OTHER_KEY": "k", "CLOUD_TASKS_PROJECT_ID": "p",
    }  # fmt: skip
    expected = Settings(project_id="p", folder=Path("/data"), size=7, share=0.5, on=True, key="k")
    assert settings_from_environment(Settings, "x", environ) == expected
    assert settings_from_environment(Settings, "x", {}) == Settings()
    with pytest.raises(InputError, match="CLOUD_TASKS_X_SIZE"):
        settings_from_environment(Settings, "x", {"CLOUD_TASKS_X_SIZE": "many"})


def test_a_variable_that_cannot_be_understood_is_named() -> None:
    parser = argparse.ArgumentParser()
    extend_parser(parser)
    with pytest.raises(InputError, match="RMS_CLOUD_TASKS_MAX_RUNTIME"):
        apply_options(SimpleNamespace(), parser.parse_args([]), {"RMS_CLOUD_TASKS_MAX_RUNTIME": "long"})


def test_an_option_of_the_program_with_the_same_flag_stays_the_programs() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", type=str)
    extend_parser(parser)
    assert parser.parse_args(["--memory", "good"]).memory == "good"


@given(
    value=st.text(max_size=60).filter(
        lambda text: "\0" not in text and not any(0xD800 <= ord(c) < 0xE000 for c in text)
    )
)
def test_no_value_is_anything_but_a_word_of_the_command(value) -> None:
    assert shlex.split(fill_in("x {value} y", {"value": value})) == ["x", value, "y"]


def test_placeholders_take_fields_lists_and_members() -> None:
    values = {"a": 1, "files": ["x y", "z"], "deep": {"b": True}}
    assert fill_in("p {a} {files} {deep.b} {{a}}", values) == "p 1 'x y' z true {a}"
    with pytest.raises(InputError, match="no field for "):
        fill_in("{c}", values)


def test_a_shell_sees_what_was_meant() -> None:
    value = "$(touch /tmp/x); 'quoted' \"twice\" *"
    printed = subprocess.run(["/bin/sh", "-c", fill_in("printf %s {v}", {"v": value})], capture_output=True, check=True)
    assert printed.stdout.decode() == value


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_a_message_of_any_size_arrives_whole(size) -> None:
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


def test_descriptors_arrive_with_their_messages_in_order() -> None:
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


def test_files_without_a_name_leave_nothing_wherever_they_are(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for in_memory in (True, False):
        descriptor = nameless_file("some-name", in_memory=in_memory)
        os.write(descriptor, b"content")
        assert os.pread(descriptor, 10, 0) == b"content"
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
        ({"on": "timeout", "codes": [1]}, '"codes" goes with "on: exit" only'),
        ({"on": "exit", "types": ["OSError"]}, '"types" goes with "on: exception" only'),
        ({"on": "exit", "attempts": 0}, "attempts: 0 is below 1"),
        ({"on": "exit", "attempts": True}, "attempts: expected a whole number, got true"),
        ({"on": "exit", "codes": ["137"]}, 'codes: expected a whole number, got "137"'),
        ({"on": "exit", "codes": "137"}, 'codes: expected a list, got "137"'),
        ({"on": "exception", "types": [3]}, "types: expected the name of an exception class, got 3"),
        ({"on": ["exit"]}, "a list is not one of exit, exception, timeout"),
        ({"on": None}, "on is missing"),
        ({"on": "exit", "code": 1}, "unknown: code"),
        ("exit", 'expected a mapping, got "exit"'),
    ],
)
def test_a_rule_is_refused_for_the_same_reason_by_configuration_and_worker(entry: object, reason: str) -> None:
    with pytest.raises(InputError) as on_worker:
        rules(retry_rules=json.dumps([{"on": "exit"}, entry]))
    assert str(on_worker.value) == f"retry_rules: rule 2: {reason}"
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        structure_setting([{"on": "exit"}, entry], tuple[RetryRule, ...])


def test_the_first_rule_that_fits_decides() -> None:
    exits = '{"on": "exit", "codes": [137], "attempts": 5}, {"on": "exit"}'
    found = rules(retry_rules=f'[{exits}, {{"on": "exception", "types": "a.MyError OSError"}}]', max_attempts=4)
    assert found.attempts(Outcome(kind=OutcomeKind.EXITED, exit_code=-9)) == 5
    assert found.attempts(Outcome(kind=OutcomeKind.EXITED, exit_code=1)) == 4
    assert found.attempts(Outcome(kind=OutcomeKind.EXCEPTION, kinds=("MyError", "Exception"))) == 4
    assert found.attempts(Outcome(kind=OutcomeKind.EXCEPTION, kinds=("ValueError",))) == 1
    assert found.attempts(Outcome(kind=OutcomeKind.TIMED_OUT)) == 1
