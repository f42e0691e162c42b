"""The section ``webhook``: values, errors and the secret URL."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from webhook_server import SECRET

from cloud_tasks import builtin
from cloud_tasks.config import ConfigurationError, JobConfig, load_config
from cloud_tasks.config.values import show
from cloud_tasks.errors import InputError
from cloud_tasks.registry import Registry
from cloud_tasks_notify import plugin
from cloud_tasks_notify.address import check_address, read_address
from cloud_tasks_notify.senders import make_sender
from cloud_tasks_notify.settings import NotifySettings
from cloud_tasks_notify.template import PLACEHOLDERS

ADDRESS = f"https://hooks.example.com/services/{SECRET}"
PAGE = (
    (Path(__file__).parents[3] / "docs" / "event_sinks.md").read_text(encoding="utf-8").partition("\n## webhook\n")[2]
)


def read(folder: Path, text: str, environ: dict[str, str] | None = None) -> JobConfig:
    registry = Registry(builtins=[("builtin", builtin)], only=())
    registry.register("notify", plugin)
    file = folder / "config.yml"
    file.write_text(text)
    file.chmod(0o600)
    return load_config(registry, file=file, options={}, environ=environ or {})


def test_values_of_the_section_arrive(tmp_path: Path) -> None:
    config = read(tmp_path, "event_sinks: [webhook]\nwebhook: {budget: [0.9], failure_rate: null}")
    assert config.settings_for("event_sink", "webhook") == NotifySettings(budget=(0.9,), failure_rate=None)


@pytest.mark.parametrize("address", [ADDRESS, f"slack://T1JJ3T3L2/A1BRTD4JD/{'xSECRETx' * 3}/#jobs"])
@pytest.mark.parametrize("where", ["file", "environment"])
def test_url_is_in_no_output(tmp_path: Path, where: str, address: str) -> None:
    text = "event_sinks: [webhook]\n" + (f"webhook: {{url: '{address}'}}" if where == "file" else "")
    config = read(tmp_path, text, {"CLOUD_TASKS_WEBHOOK_URL": address} if where == "environment" else {})
    settings = config.settings_for("event_sink", "webhook")
    assert settings.url == address
    shown = str(config.as_dict(with_origins=True)) + str(config) + str(config.worker_environment()) + repr(settings)
    assert "SECRET" not in shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("failure_rate: 20", "webhook.failure_rate: must be above 0, and at most 1"),
        ("budget: [0.5, 2]", "webhook.budget: must be above 0, and at most 1"),
        ("failure_sample: 0", "webhook.failure_sample: must be at least 1"),
        ("template: $nobody", "webhook.template: unknown placeholder $nobody; the placeholders are $message"),
        ("url: ftp:SECRET", "webhook.url: "),
    ],
)
def test_invalid_value_is_reported_in_one_line_without_the_secret(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, f"webhook:\n  {text}")
    (problem,) = raised.value.problems
    assert f"config.yml:2: {line}" in problem
    assert "SECRET" not in problem


def test_url_is_read_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "webhook"
    file.write_text(f"{ADDRESS}\n")
    file.chmod(0o600)
    assert read_address(None, file) == ADDRESS
    assert read_address("http://a/b", file) == "http://a/b"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda file: file.chmod(0o640), "secret in a file that other users can read; chmod 600"),
        (lambda file: file.chmod(0o604), "secret in a file that other users can read; chmod 600"),
        (lambda file: file.unlink(), "cannot read the file: No such file"),
        (lambda file: (file.unlink(), file.mkdir(0o700)), "cannot read the file: Is a directory"),
        (lambda file: file.write_text(SECRET), "expected a URL that starts with https://"),
        (lambda file: file.write_text(f"//nowhere/{SECRET}"), "expected a URL that starts with https://"),
        (lambda file: file.write_text(""), "expected a URL"),
    ],
)
def test_unusable_file_is_refused_and_not_quoted(
    tmp_path: Path, spoil: Callable[[Path], object], complaint: str
) -> None:
    file = tmp_path / "webhook"
    file.write_text(ADDRESS)
    file.chmod(0o600)
    spoil(file)
    with pytest.raises(InputError, match=complaint) as raised:
        read_address(None, file)
    assert "SECRET" not in str(raised.value)


def test_missing_url_names_both_ways_to_set_it() -> None:
    with pytest.raises(InputError, match=r"set CLOUD_TASKS_WEBHOOK_URL, or .* webhook\.url_file"):
        read_address(None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        *(f"{start}{SECRET}" for start in ("ftp:/a/", "https:///", "https://a:xx/", "://", "http://[")),
        f"https://a/{SECRET} x",
    ],
)
def test_invalid_url_is_refused_and_not_quoted(text: str, root_log: io.StringIO) -> None:
    with pytest.raises(ValueError, match=r"^(expected a URL|invalid characters)") as raised:
        check_address(text)
    assert "SECRET" not in str(raised.value) + root_log.getvalue()


@pytest.mark.parametrize("url", [f"ftp://a/{SECRET}", f"slack://?{SECRET}", f"nowhere://{SECRET}"])
def test_unknown_service_is_refused_on_opening_and_not_quoted(url: str, root_log: io.StringIO) -> None:
    with pytest.raises(InputError, match=r"^webhook\.url: not a valid Apprise URL; see ") as raised:
        make_sender(url, field="text")
    assert "SECRET" not in str(raised.value) + root_log.getvalue()


@pytest.mark.parametrize("url", re.findall(r"^\| `([a-z]+://.*?)` \|", PAGE, re.M))
def test_page_lists_valid_urls(url: str) -> None:
    parts = {"…": "x", "TOKEN_A": "T1JJ3T3L2", "TOKEN_B": "A1BRTD4JD", "TOKEN_C": "x" * 24, "WEBHOOK_ID": "1" * 18}
    for name, value in {**parts, "TOKEN": "x" * 64}.items():
        url = url.replace(name, value)
    check_address(url)
    assert callable(make_sender(url, field="text"))


def test_plain_webhook_does_not_import_apprise() -> None:
    program = f"import sys; from cloud_tasks_notify.settings import *; NotifySettings(url='{ADDRESS}'); "
    program += "import cloud_tasks_notify.sink, cloud_tasks_notify.plugin; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=dict(os.environ), check=False).returncode == 0


def test_page_has_every_setting_with_its_default_and_every_placeholder() -> None:
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(NotifySettings)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.M))
    assert rows == {field.name: default(field) for field in fields}
    assert [name for name in PLACEHOLDERS if f"`${name}`" not in PAGE] == []


def default(field: attrs.Attribute[Any]) -> str:
    if field.default is None:
        return "none"
    return str(show(field.default) if isinstance(field.default, tuple) else field.default).replace("True", "true")


def test_configuration_of_the_page_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    config = read(tmp_path, text)
    assert config.settings_for("event_sink", "webhook").failure_rate == 0.1
