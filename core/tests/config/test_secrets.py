"""Secrets in the configuration: never in an output or an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from configuration_fakes import SECRET, make_registry
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cloud_tasks.config import ConfigurationError, JobConfig, load_config
from cloud_tasks.errors import InputError

Read = Callable[..., JobConfig]

_FILE = f"provider: gcp\ngcp:\n  project_id: p\n  secret_key: {SECRET}\n"


def _everything(config: JobConfig) -> str:
    shown = [repr(config), str(config), json.dumps(config.as_dict()), json.dumps(config.as_dict(with_origins=True))]
    shown += [*map(repr, config.entries()), *config.override_lines(), *map(repr, config.overrides)]
    shown += [repr(config.settings_for("compute", "gcp")), repr(config.worker_environment()), repr(config.origins)]
    return "\n".join(shown)


def test_settings_for_contains_the_secret(read: Read) -> None:
    assert read(_FILE).settings_for("compute", "gcp").secret_key == SECRET


@pytest.mark.parametrize(
    "above",
    [
        {},
        {"environ": {"CLOUD_TASKS_GCP_SECRET_KEY": f"{SECRET}-2"}},
        {"options": {"--secret-key": f"{SECRET}-3"}},
        {"sets": [f"gcp.secret_key={SECRET}-4"]},
    ],
)
def test_secret_is_in_no_output(read: Read, above: dict[str, Any]) -> None:
    config = read(_FILE, **above)
    assert config.settings_for("compute", "gcp").secret_key.startswith(SECRET)
    assert SECRET not in _everything(config)


def test_override_lines_mask_a_replaced_secret(read: Read) -> None:
    config = read(_FILE, environ={"CLOUD_TASKS_GCP_SECRET_KEY": "another-secret"})
    assert config.override_lines() == (
        "gcp.secret_key: ******** from environment (CLOUD_TASKS_GCP_SECRET_KEY) replaces ******** from config.yml:4",
    )


@pytest.mark.parametrize("given", [{"options": {"--secret-key": SECRET}}, {"sets": [f"gcp.secret_key={SECRET}"]}])
def test_override_lines_warn_of_a_secret_on_the_command_line(read: Read, given: dict[str, Any]) -> None:
    config = read("provider: gcp\ngcp:\n  project_id: p\n", **given)
    assert config.override_lines() == (
        "gcp.secret_key: a secret on the command line is visible to other users of this machine; "
        "set CLOUD_TASKS_GCP_SECRET_KEY instead",
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
@pytest.mark.parametrize("environ", [{}, {"CLOUD_TASKS_GCP_SECRET_KEY": "another-secret"}])
def test_secret_in_a_readable_file_is_refused(tmp_path: Path, mode: int, environ: dict[str, str]) -> None:
    file = tmp_path / "config.yml"
    file.write_text(_FILE)
    file.chmod(mode)
    with pytest.raises(ConfigurationError) as raised:
        load_config(make_registry(), file=file, options={}, environ=environ)
    (problem,) = raised.value.problems
    assert str(problem) == (
        f"{file}:4: gcp.secret_key: a secret in a file that others can read; "
        f"chmod 600 {file}, or set CLOUD_TASKS_GCP_SECRET_KEY instead"
    )


def test_file_without_a_secret_may_be_readable(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("provider: gcp\ngcp:\n  project_id: p\n")
    file.chmod(0o644)
    assert load_config(make_registry(), file=file, options={}, environ={}).provider == "gcp"


def test_values_of_a_plugin_that_is_not_installed_are_masked(read: Read) -> None:
    config = read(f"provider: azure\nazure:\n  client_secret: {SECRET}\n", sets=[f"azure.client_secret={SECRET}-2"])
    assert config.as_dict()["azure"] == {"client_secret": "********"}
    assert SECRET not in repr(config) + "".join(config.override_lines())


def test_error_of_a_secret_does_not_show_it(read: Read) -> None:
    with pytest.raises(InputError) as caught:
        read(f"gcp:\n  secret_key: [{SECRET}]\n")
    assert SECRET not in str(caught.value)


_WORD = "SEKRET4711"
_BROKEN_VALUES = [
    # Tags, anchors and aliases.
    *("!S x", "!S", "!<S> x", "!<S x", "!!S x", "!a!S", "!S%zz", "!S%ff", "!!S", "! S", "!!int S", "!!float S x"),
    *(
        "!!bool S",
        "!!seq S",
        "!!map S",
        "!!null S",
        "!!merge S",
        "!!binary S",
        "!!python/name:S",
        "!S {S: 1}",
        "!S [S]",
    ),
    *("&S", "&S.x", "&S !S", "*S", "*S.x", "&a *S", "&a &S x", "&a [*a, S]", "[&S , *S]", "{? &S }", "!!set {S}"),
    # Other characters with a meaning.
    *(
        "%S",
        "@S",
        "`S",
        ",S",
        "]S",
        "}S",
        "- S",
        "? S",
        ": S",
        "|S",
        ">S",
        ">9S",
        "|\n S: [",
        "\tS",
        "\x01S",
        "S\x01",
        "%S %S",
    ),
    *(
        "S: S",
        "x: S",
        "S: x: S",
        '"S',
        "'S",
        '"\\qS"',
        '"\\xS"',
        '"S" S',
        "'S'S",
        "<<: S",
        "<< S",
        "{<<: S}",
        "{<<: [S]}",
    ),
    # Lists and mappings.
    *(
        "[S",
        "[S]",
        "[S]]",
        "{S}",
        "{S: 1, S: 2}",
        "{S: 1",
        "{? S}",
        "{[S]: 1}",
        "x, S",
        "x, S, y",
        "x, S]",
        "{S S: 1, S S: 2}",
    ),
    # Several lines.
    *("\nS", "\n  - S\n  S", "\n    S\n   S", "\n    S: 1\n    S: 2", "\n    ? S\n    S", "\n    ? [S]\n    : 1"),
    *(
        "x\n    S: [",
        "\n  - S\n  - !S",
        "-----BEGIN S-----\nS\n-----END S-----",
        "!S\n",
        "&S\n",
        "!S\n  &S\n",
        "x\n--- S\n--- S",
    ),
]
_PLACES = [
    "gcp:\n  secret_key: {}\n",
    "gcp: {{secret_key: {}}}\n",
    "gcp: {{secret_key: {}, project_id: p}}\n",
    "aws:\n  access_key:\n    {}\n",
]


def _message(read: Read, text: str) -> str:
    """Return the error about a file, or what is shown of its configuration."""
    try:
        config = read(text)
    except InputError as error:
        return str(error)
    return repr(config) + json.dumps(config.as_dict(with_origins=True)) + "".join(config.override_lines())


@pytest.mark.parametrize("place", _PLACES)
def test_error_of_a_malformed_secret_has_none_of_its_text(read: Read, place: str) -> None:
    shown = {
        value: message
        for value in _BROKEN_VALUES
        if _WORD in (message := _message(read, place.format(value.replace("S", _WORD))))
    }
    assert shown == {}


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(_PLACES[:3]),
    st.text("!&*%@`|>-?:,[]{}#\\\"' \n<ax9", max_size=5),
    st.text("!&*%:,]}\"' \n#", max_size=4),
)
def test_error_of_any_text_around_a_secret_has_none_of_it(read: Read, place: str, before: str, after: str) -> None:
    text = place.format(before + _WORD + after)
    assume(not _is_another_key(text))
    assert _WORD not in _message(read, text)


def _is_another_key(text: str) -> bool:
    """Return whether the word is no part of the secret, but the name of a section or of another key."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    levels = [document, *document.values()] if isinstance(document, dict) else []
    return any(_WORD in str(key) for level in levels if isinstance(level, dict) for key in level)


@pytest.mark.parametrize("value", ["&SEKRET", "&SEKRET\n", "! SEKRET", "!SEKRET x", "*SEKRET"])
def test_value_that_begins_as_a_tag_anchor_or_alias_is_refused_with_the_remedy(read: Read, value: str) -> None:
    with pytest.raises(
        InputError, match=r'^config.yml:2: .*; put a value that begins with "!", "&" or "\*" in quotes$'
    ):
        read(f"gcp:\n  secret_key: {value}\n")


def test_override_lines_warn_of_variables_of_the_job_that_are_named_as_secrets(read: Read) -> None:
    names = ("HF_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "TOKENIZERS_PARALLELISM", "SECRETS_DIR", "KEYMAP")
    text = "run:\n  environment:\n" + "".join(f"    {name}: hush\n" for name in names)
    lines = read(text).override_lines()
    assert [line.split(":")[0].rpartition(".")[2] for line in lines] == list(names[:3])
    assert not any("hush" in line for line in lines)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("1A: x", '"1A" is not the name of a variable'),
        ('"A B": x', '"A B" is not the name of a variable'),
        ('"A=B": x', '"A=B" is not the name of a variable'),
        ("CLOUD_TASKS_JOB_ID: x", '"CLOUD_TASKS_JOB_ID" is set by cloud-tasks'),
        ("RMS_CLOUD_TASKS_X: x", '"RMS_CLOUD_TASKS_X" is set by cloud-tasks'),
        ("A: 1.10", "expected text, got 1.1; put it in quotes"),
        ("A: yes", "put it in quotes"),
        ('A: "a\\0b"', "NUL character"),
    ],
)
def test_environment_of_the_job_with_an_impossible_variable_is_refused(read: Read, entry: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        read(f"run:\n  environment:\n    {entry}\n")
