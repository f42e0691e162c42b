"""`run.secrets`: where the secrets of the tasks are read; what may be a value by mistake is never shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_tasks.config import ConfigurationError, JobConfig, read_secrets, secret_files

Read = Callable[..., JobConfig]
SECRET = "SEKRET-4711"


def configured(**secrets: Any) -> str:
    return "provider: gcp\nrun:\n  secrets: " + json.dumps(secrets)


def test_secrets_are_read_from_variables_and_files(read: Read, tmp_path: Path) -> None:
    content = bytes(range(256))
    (tmp_path / "key file").write_bytes(content)
    config = read(configured(a="env:TOKEN", key="file:key file", other=f"file:{tmp_path}/key file"))
    assert read_secrets(config, {b"TOKEN": b"x\xff "}) == {"a": b"x\xff ", "key": content, "other": content}
    assert [each.resolve() for each in secret_files(config).values()] == [tmp_path / "key file"] * 2
    assert "TOKEN" in config.secret_variables()
    assert json.loads(json.dumps(config.as_dict()))["run"]["secrets"]["a"] == "env:TOKEN"


@pytest.mark.parametrize(
    "value", [SECRET, f"env: {SECRET}", f"ENV:{SECRET}", "file:", f"env:{SECRET}", "", f"x\n{SECRET}"]
)
def test_value_in_place_of_a_source_is_refused_and_not_shown(read: Read, value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(configured(token=value))
    assert str(refused.value) == (
        "config.yml:3: run.secrets: token: expected the place of the secret, got other text (not shown); "
        "use env:VARIABLE or file:PATH"
    )


@pytest.mark.parametrize(
    "secrets", [SECRET, [SECRET], {"token": [SECRET]}, {"token": 4711}, {"token": {SECRET: 1}}, 4711]
)
def test_secrets_of_another_form_are_refused_and_not_shown(read: Read, secrets: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read("provider: gcp\nrun:\n  secrets: " + json.dumps(secrets))
    assert str(refused.value) == (
        "config.yml:3: run.secrets: expected a mapping; the given value is a secret and not shown"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(st.just(SECRET), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)))
def test_secrets_of_any_form_are_not_shown(read: Read, secrets: Any) -> None:
    text = "provider: gcp\ngcp:\n  secrets: {a: 'env:B'}\nrun:\n  secrets: " + json.dumps(secrets)
    try:
        config = read(text, environ={"CLOUD_TASKS_RUN_SECRETS": json.dumps(secrets)}, sets=[f"run.secrets={secrets}"])
        shown = str(config) + "".join(config.override_lines())
    except ConfigurationError as error:
        shown = str(error)
    assert SECRET not in shown


def test_replaced_source_is_not_shown(read: Read) -> None:
    # Of a replaced value only the type is checked.
    config = read(configured(token=SECRET), sets=["run.secrets={token: 'env:TOKEN'}"])
    assert config.override_lines() == (
        "run.secrets: ******** from command line (--set) replaces ******** from config.yml:3",
    )
    assert SECRET not in repr(config) + json.dumps(config.as_dict(with_origins=True))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "ä", "a\n", "x" * 101])
def test_name_that_no_file_should_have_is_refused(read: Read, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the name of a secret; use letters, digits"):
        read(configured(**{name: "env:TOKEN"}))


def test_each_secret_that_cannot_be_read_is_a_line(read: Read, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    config = read(configured(a="env:MISSING", b="file:missing", c="file:/dev/null", d="file:empty", e="file:."))
    with pytest.raises(ConfigurationError) as refused:
        read_secrets(config, {b"MISSING": b""})
    assert str(refused.value).splitlines() == [
        f"config.yml:3: run.secrets.{problem}"
        for problem in (
            "a: the variable MISSING is not set; set it before the run, and before each --continue",
            f"b: cannot read {tmp_path}/missing: No such file or directory",
            "c: /dev/null is not a regular file",
            f"d: {tmp_path}/empty is empty",
            f"e: {tmp_path} is not a regular file",
        )
    ]


def test_secrets_of_64_kib_are_the_limit(read: Read, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 65_535)
    config = read(configured(large="file:large", small="env:TOKEN"))
    assert len(read_secrets(config, {b"TOKEN": b"x"})) == 2
    with pytest.raises(
        ConfigurationError, match=r"run\.secrets: more than 64 KiB together; the largest is large; keep"
    ):
        read_secrets(config, {b"TOKEN": b"xx"})
